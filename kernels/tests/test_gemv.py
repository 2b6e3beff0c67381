"""The matrix-vector products of a few tokens."""

from __future__ import annotations

import pytest
import torch

from moe_dispatch.gemv import plan_gemv_experts
from moe_dispatch.gemv_config import GemvConfig, GemvTile
from moe_dispatch.tensor_spec import TensorSpec

TILES = [
    pytest.param(GemvTile(16, 32, 4), id="small"),
    pytest.param(GemvTile(64, 16, 4), id="tall"),
]


def gemv_experts(*tensors: torch.Tensor, tile: GemvTile) -> torch.Tensor:
    plan = plan_gemv_experts(*map(TensorSpec.of, tensors), config=GemvConfig(tile, tile))
    return plan(*tensors)


def integers(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, shape, generator=generator).float()


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    ("hidden_size", "intermediate_size"), [(32, 32), (40, 36), (7, 3), (65, 96), (1, 1)]
)
@pytest.mark.parametrize("ids", [[[2, 0, 1]], [[1, -1, 1]], [[0, 3, 9], [-7, 2, 2]]])
def test_exact_values(
    device: torch.device,
    tile: GemvTile,
    hidden_size: int,
    intermediate_size: int,
    ids: list[list[int]],
) -> None:
    """With a gate of 64 SiLU is exact, and everything else is integers and powers of two."""
    num_experts = 3
    topk_ids = torch.tensor(ids)
    num_tokens, top_k = topk_ids.shape
    x = integers(num_tokens, hidden_size, seed=0)
    x[:, 0] = 1
    gate_up_proj = integers(num_experts, 2 * intermediate_size, hidden_size, seed=1)
    gate_up_proj[:, :intermediate_size] = 0
    gate_up_proj[:, :intermediate_size, 0] = 64
    down_proj = integers(num_experts, hidden_size, intermediate_size, seed=2)
    topk_weights = torch.tensor([[0.5, -2.0, 4.0]]).expand(num_tokens, top_k)
    expected = torch.zeros(num_tokens, hidden_size)
    for token in range(num_tokens):
        for expert, weight in zip(ids[token], topk_weights[token], strict=True):
            if 0 <= expert < num_experts:
                h = 64 * gate_up_proj[expert, intermediate_size:] @ x[token]
                expected[token] += weight * (down_proj[expert] @ h)
    arguments = (x, gate_up_proj, down_proj, topk_ids, topk_weights)
    actual = gemv_experts(*(a.to(device) for a in arguments), tile=tile)
    torch.testing.assert_close(actual.cpu(), expected, rtol=0, atol=0)


def test_experts_without_the_token_are_not_read(device: torch.device) -> None:
    tile = GemvTile(16, 16, 4)
    weights = torch.full((3, 16, 8), float("nan"))
    weights[1] = 1
    ids = torch.tensor([[1, 7]])
    actual = gemv_experts(
        torch.ones(1, 8, device=device),
        weights.to(device),
        weights.transpose(1, 2)[:, :, :8].to(device),
        ids.to(device),
        torch.ones(1, 2, device=device),
        tile=tile,
    )
    assert actual.isfinite().all()
