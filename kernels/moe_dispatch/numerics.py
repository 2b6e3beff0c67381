"""Dot products and roundings whose result does not depend on where they run.

Triton's interpreter keeps bf16 values as 16-bit integers: its dot of bf16 tiles multiplies their
bit patterns, its cast to bf16 truncates, and its casts in both directions lose subnormals. When
(and only when) the interpreter runs them, the helpers here do in float32 what the hardware does.
"""

from __future__ import annotations

import triton.language as tl

from .target import INTERPRETED, device_function

COMPILE_OPTIONS = {"enable_fp_fusion": False}
"""For every launch: a * b + c is fused only where a kernel says `tl.fma`.

Triton's own default depends on its version.
"""


@device_function
def to_float32(value):
    """`value` (bf16, fp16 or fp32) as float32: exact."""
    if INTERPRETED and value.dtype == tl.bfloat16:
        bits = value.to(tl.uint16, bitcast=True).to(tl.uint32) << 16
        return bits.to(tl.float32, bitcast=True)
    return value.to(tl.float32)


@device_function
def dot_accumulate(a, b, accumulator, ALLOW_TF32: tl.constexpr):
    """`accumulator + a @ b` in fp32; fp32 operands are rounded to tf32 only if ALLOW_TF32.

    a: (M, K), b: (K, N), both bf16, fp16 or fp32. accumulator: (M, N) float32. Or as many products
    as the first of three dimensions has.
    """
    if INTERPRETED:
        # Not by a BLAS, which rounds a row's sums by where in the tile the row lies.
        products = tl.expand_dims(to_float32(a), -1) * tl.expand_dims(to_float32(b), -3)
        return accumulator + tl.sum(products, axis=len(a.shape) - 1)
    precision: tl.constexpr = "tf32" if ALLOW_TF32 else "ieee"
    return tl.dot(a, b, accumulator, input_precision=precision)


@device_function
def round_to(value, dtype: tl.constexpr):
    """`value` (float32) rounded to `dtype`, to nearest and ties to even; a NaN stays a NaN."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = value.to(tl.uint32, bitcast=True)
        # Adding 0x7fff, or 0x8000 where the kept part is odd, carries into the kept 16 bits exactly
        # when the value rounds away from zero; Inf has no low bits, so it stays.
        odd = (bits >> 16) & 1
        nearest = bits + 0x7FFF + odd
        # The carry could turn a NaN into Inf or zero.
        nearest = tl.where(value == value, nearest, 0x7FC00000)
        return (nearest >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return value.to(dtype)
