"""The weighted sum over k, bit for bit."""

from __future__ import annotations

import pytest
import torch

from moe_dispatch.combine import plan_combine
from moe_dispatch.tensor_spec import TensorSpec


def combine(
    y: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, *, num_experts: int
) -> torch.Tensor:
    specs = map(TensorSpec.of, (y, ids, weights))
    return plan_combine(*specs, num_experts=num_experts)(y, ids, weights)


def combined(
    y: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, num_experts: int
) -> torch.Tensor:
    """The sum in float64 (each step of it exact enough), rounded to float32 after every addition.

    A fused multiply-add rounds once; the interpreter rounds the product as well.
    """
    num_tokens, top_k = ids.shape
    total = torch.zeros(num_tokens, y.shape[1], dtype=torch.float32)
    rows = y.cpu().float().view(num_tokens, top_k, -1)
    for k in range(top_k):
        product = weights[:, k, None].cpu().float() * rows[:, k]
        routed = (ids[:, k] >= 0) & (ids[:, k] < num_experts)
        total = torch.where(routed.cpu()[:, None], total + product, total)
    return total.to(y.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("num_tokens", "top_k", "hidden_size"), [(1, 1, 1), (17, 3, 40), (3, 11, 1030), (20, 6, 16)]
)
def test_sums_in_order(
    device: torch.device, dtype: torch.dtype, num_tokens: int, top_k: int, hidden_size: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    # Products of few bits: fused or not, each step rounds the same.
    y = torch.randint(-128, 128, (num_tokens * top_k, hidden_size), generator=generator)
    y = (y * 2.0 ** torch.randint(-8, 9, y.shape, generator=generator)).to(device, dtype)
    weights = torch.randint(1, 256, (num_tokens, top_k), generator=generator) / 256
    ids = torch.randint(-1, 6, (num_tokens, top_k), generator=generator)
    y.view(num_tokens, top_k, -1)[((ids < 0) | (ids >= 5)).to(device)] = float("nan")
    actual = combine(y, ids.to(device), weights.to(device), num_experts=5)
    assert actual.dtype == dtype
    assert torch.equal(actual.cpu(), combined(y, ids, weights, 5))


def test_order_of_k_matters(device: torch.device) -> None:
    y = torch.tensor([[2.0**24], [1.0], [1.0]], device=device)
    ids = torch.zeros(1, 3, dtype=torch.int32, device=device)
    weights = torch.ones(1, 3, device=device)
    assert combine(y, ids, weights, num_experts=1).item() == 2.0**24
    assert combine(y.flip(0), ids, weights, num_experts=1).item() == 2.0**24 + 2


def test_rounds_once(device: torch.device) -> None:
    # In bfloat16 256 + 1 is 256 again; in float32 the eight ones add up.
    y = torch.tensor([[256.0]] + [[1.0]] * 8, device=device, dtype=torch.bfloat16)
    ids = torch.zeros(1, 9, dtype=torch.int32, device=device)
    weights = torch.ones(1, 9, device=device)
    assert combine(y, ids, weights, num_experts=1).item() == 264.0


def test_strided_ids_and_weights(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(-9, 9, (30, 8), generator=generator).to(device, torch.float32)
    ids = torch.randint(-1, 4, (20, 6), generator=generator).to(device)[::2, ::2]
    weights = torch.randint(1, 9, (3, 10), generator=generator).to(device, torch.float32).T
    actual = combine(y, ids, weights, num_experts=4)
    assert torch.equal(actual.cpu(), combined(y, ids, weights, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights(device: torch.device, dtype: torch.dtype) -> None:
    y = torch.tensor([[3.0], [5.0]], device=device)
    ids = torch.zeros(1, 2, dtype=torch.int64, device=device)
    weights = torch.tensor([[0.25, 0.5]], device=device, dtype=dtype)
    assert combine(y, ids, weights, num_experts=1).item() == 3.25
