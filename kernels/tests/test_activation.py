"""SwiGLU over every 16-bit gate."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from moe_dispatch.activation import swiglu


@triton.jit
def swiglu_kernel(gate_ptr, up_ptr, out_ptr, N: tl.constexpr):
    index = tl.arange(0, N)
    out = swiglu(tl.load(gate_ptr + index), tl.load(up_ptr + index))
    tl.store(out_ptr + index, out)


def run(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(gate)
    swiglu_kernel[(1,)](gate, up, out, N=gate.numel())
    return out.cpu()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_silu_of_every_gate(device: torch.device, dtype: torch.dtype) -> None:
    gate = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(dtype).float()
    gate = torch.where(gate.isfinite(), gate, 0.0)
    actual = run(gate.to(device), torch.ones_like(gate, device=device)).double()
    exact = torch.nn.functional.silu(gate.double())
    # A fast exp of g is off by 2 + 1.173 |g| units; it moves sigmoid by its share 1 - sigmoid.
    share = torch.sigmoid(-gate.double())
    error = ((2 + 1.173 * gate.double().abs()) * share + 5) * 2.0**-23 * exact.abs() + 2.0**-119
    assert ((actual - exact).abs() <= error).all()


def test_silu_is_exact_far_from_zero(device: torch.device) -> None:
    gate = torch.arange(32, 32 + 256, device=device, dtype=torch.float32)
    assert torch.equal(run(gate, torch.ones_like(gate)), gate.cpu())
    assert (run(-gate - 110, torch.ones_like(gate)) == 0).all()


def test_up_multiplies(device: torch.device) -> None:
    gate = torch.full((16,), 40.0, device=device)
    up = torch.arange(-8.0, 8.0, device=device)
    assert torch.equal(run(gate, up), 40 * up.cpu())


def test_infinities_and_nan(device: torch.device) -> None:
    infinity, nan = float("inf"), float("nan")
    gate = torch.tensor([infinity, infinity, nan, 1.0, 0.0, 1e38, -1e38, 40.0], device=device)
    up = torch.tensor([1.0, -1.0, 1.0, nan, 1.0, 1.0, 1.0, infinity], device=device)
    expected = torch.tensor([infinity, -infinity, nan, nan, 0.0, 1e38, 0.0, infinity])
    torch.testing.assert_close(run(gate, up), expected, rtol=0, atol=0, equal_nan=True)
