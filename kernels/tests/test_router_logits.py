"""The router's matrix product."""

from __future__ import annotations

import pytest
import torch

from moe_dispatch.router_logits import plan_router_logits
from moe_dispatch.tensor_spec import TensorSpec

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def router_logits(x: torch.Tensor, weight: torch.Tensor, *, batch_invariant: bool) -> torch.Tensor:
    specs = map(TensorSpec.of, (x, weight))
    return plan_router_logits(*specs, batch_invariant=batch_invariant)(x, weight)


@pytest.mark.parametrize("weight_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "hidden_size"), [(1, 1, 1), (19, 33, 70), (3, 130, 32)]
)
def test_exact_on_integers(
    device: torch.device,
    dtype: torch.dtype,
    weight_dtype: torch.dtype,
    num_tokens: int,
    num_experts: int,
    hidden_size: int,
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-128, 129, (num_tokens, hidden_size), generator=generator).float()
    weight = torch.randint(-128, 129, (num_experts, hidden_size), generator=generator).float()
    logits = router_logits(
        x.to(device, dtype), weight.to(device, weight_dtype), batch_invariant=False
    )
    assert logits.dtype == torch.float32
    assert torch.equal(logits.cpu(), x @ weight.T)


def test_keeps_float32_weights(device: torch.device) -> None:
    """A weight that bfloat16 would round, against activations in bfloat16."""
    x = torch.ones(1, 1, device=device, dtype=torch.bfloat16)
    weight = torch.tensor([[1.0], [1.0 + 2.0**-20]], device=device)
    assert torch.equal(router_logits(x, weight, batch_invariant=False), weight.T)


def test_strided(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-9, 10, (28, 40), generator=generator).to(device).float().T[::2]
    weight = torch.randint(-9, 10, (15, 57), generator=generator).to(device).float()[:, 1::2]
    assert torch.equal(router_logits(x, weight, batch_invariant=False), x @ weight.T)


def test_large_blocks_compute_the_same(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-9, 10, (530, 70), generator=generator).to(device).float()
    weight = torch.randint(-9, 10, (9, 70), generator=generator).to(device).float()
    assert torch.equal(router_logits(x, weight, batch_invariant=False), x @ weight.T)


def test_batch_invariant(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(530, 40, generator=generator).to(device)
    weight = torch.randn(5, 40, generator=generator).to(device)
    together = router_logits(x, weight, batch_invariant=True)
    alone = router_logits(x[77:78], weight, batch_invariant=True)
    assert torch.equal(together[77:78], alone)
