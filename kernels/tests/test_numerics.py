"""Roundings and dot products of the interpreter against torch's."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from moe_dispatch.numerics import dot_accumulate, round_to, to_float32


@triton.jit
def round_kernel(value_ptr, out_ptr, N: tl.constexpr):
    index = tl.arange(0, N)
    value = tl.load(value_ptr + index)
    tl.store(out_ptr + index, round_to(value, out_ptr.dtype.element_ty))


@triton.jit
def widen_kernel(value_ptr, out_ptr, N: tl.constexpr):
    index = tl.arange(0, N)
    tl.store(out_ptr + index, to_float32(tl.load(value_ptr + index)))


@triton.jit
def dot_kernel(a_ptr, b_ptr, out_ptr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m = tl.arange(0, M)[:, None]
    n = tl.arange(0, N)[None, :]
    k = tl.arange(0, K)
    a = tl.load(a_ptr + m * K + k[None, :])
    b = tl.load(b_ptr + k[:, None] * N + n)
    out = tl.load(out_ptr + m * N + n)
    tl.store(out_ptr + m * N + n, dot_accumulate(a, b, out, False))


def rounded(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    out = torch.empty(values.shape, dtype=dtype, device=values.device)
    round_kernel[(1,)](values, out, N=values.numel())
    return out


def bits(*patterns: int) -> torch.Tensor:
    unsigned = torch.tensor(patterns, dtype=torch.int64)
    return unsigned.sub(unsigned.ge(1 << 31) * (1 << 32)).to(torch.int32).view(torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_widens_every_value(device: torch.device, dtype: torch.dtype) -> None:
    values = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(dtype).to(device)
    out = torch.empty(values.shape, device=device)
    widen_kernel[(1,)](values, out, N=values.numel())
    torch.testing.assert_close(out, values.float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rounds_like_torch(device: torch.device, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(-(1 << 31), 1 << 31, (1 << 14,), generator=generator)
    values = patterns.to(torch.int32).view(torch.float32)
    values = torch.where(values.isnan(), 1.0, values).to(device)
    torch.testing.assert_close(rounded(values, dtype), values.to(dtype), rtol=0, atol=0)


def test_bfloat16_ties_go_to_even(device: torch.device) -> None:
    below, tie, above = 0x7FFF, 0x8000, 0x8001
    even, odd = 0x3F80_0000, 0x3F81_0000
    values = bits(
        even, even + below, even + tie, even + above, odd, odd + below, odd + tie, odd + above
    )
    expected = bits(even, even, even, odd, odd, odd, odd + 0x1_0000, odd + 0x1_0000)
    assert torch.equal(rounded(values.to(device), torch.bfloat16).float().cpu(), expected)


def test_bfloat16_keeps_special_values(device: torch.device) -> None:
    zero, infinity, largest, smallest = 0, 0x7F80_0000, 0x7F7F_FFFF, 1
    sign = 0x8000_0000
    positive = bits(zero, infinity, largest, smallest)
    negative = bits(sign, sign + infinity, sign + largest, sign + smallest)
    expected = bits(zero, infinity, infinity, zero)
    actual = rounded(torch.cat([positive, negative]).to(device), torch.bfloat16).float().cpu()
    assert torch.equal(actual.view(torch.int32)[:4], expected.view(torch.int32))
    assert torch.equal(actual[4:], -expected)
    assert actual[4:].signbit().all()


def test_bfloat16_keeps_nan(device: torch.device) -> None:
    # The carry of the rounding would make Inf of the first two, and +-0 of the others.
    values = bits(0x7F80_0001, 0xFF80_0001, 0x7FFF_FFFF, 0xFFFF_FFFF)
    assert rounded(values.to(device), torch.bfloat16).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dot_is_exact_on_integers(device: torch.device, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (
        torch.randint(-16, 17, shape, generator=generator).to(device, dtype)
        for shape in ((16, 32), (32, 16))
    )
    start = torch.randint(-99, 99, (16, 16), generator=generator).to(device, torch.float32)
    out = start.clone()
    dot_kernel[(1,)](a, b, out, M=16, N=16, K=32)
    assert torch.equal(out.double(), start.double() + a.double() @ b.double())


def test_dot_does_not_depend_on_the_rows_place(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(32, 64, generator=generator).to(device)
    b = torch.randn(64, 32, generator=generator).to(device)
    order = torch.randperm(32, generator=generator)
    straight, permuted = (torch.zeros(32, 32, device=device) for _ in range(2))
    dot_kernel[(1,)](a, b, straight, M=32, N=32, K=64)
    dot_kernel[(1,)](a[order], b, permuted, M=32, N=32, K=64)
    assert torch.equal(permuted, straight[order])
