"""Floating-point operations of the vector ALU that numpy does not have, on arrays of any shape.

What AMD's pseudo-code says (RDNA3 and CDNA3 ISA, "Instructions"), denormals kept. Where the
hardware gives an approximation within 1 ulp (exp, log, rcp, rsq, sqrt, sin, cos), these give the
nearest float32 or one next to it; and like the hardware they take denormals for zero there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_SMALLEST_NORMAL = np.float32(2.0**-126)
_TIE_BITS = np.uint64(0x1FFFFFFF)
_TIE = np.uint64(0x10000000)


def fma32(a: Array, b: Array, c: Array) -> Array:
    """a * b + c, rounded once to float32.

    The product is exact in float64, the sum is rounded there, and once more to float32. The second
    rounding errs only where the sum looks like a tie: that is looked for, and mended.
    """
    product = np.multiply(a, b, dtype=np.float64)
    total = np.add(product, c, dtype=np.float64)
    suspect = (total.view(np.uint64) & _TIE_BITS) == _TIE
    tiny = np.abs(total) < _SMALLEST_NORMAL
    if suspect.any() or tiny.any():
        total = _to_odd(product, np.asarray(c, np.float64), total)
    return total.astype(np.float32)


def _to_odd(product: Array, addend: Array, total: Array) -> Array:
    """The sum in float64 rounded to odd, which a second rounding then cannot spoil.

    Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008.
    """
    addend = np.broadcast_to(addend, total.shape)
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    away = np.signbit(error) == np.signbit(total)
    stepped = np.where(total == 0, bits, np.where(away, bits + 1, bits - 1))
    return np.where(inexact, stepped, bits).view(np.float64)


def fma16(a: Array, b: Array, c: Array) -> Array:
    """a * b + c in float16; float64 holds the sum of float16 products but for its last bits."""
    return (a.astype(np.float64) * b + c).astype(np.float16)


def fma64(a: Array, b: Array, c: Array) -> Array:
    """a * b + c in float64, through the 64 mantissa bits of x86's long double."""
    return (a.astype(np.longdouble) * b + c).astype(np.float64)


def _ordered_zeros(result: Array, a: Array, b: Array, *, negative_wins: bool) -> Array:
    """minimum and maximum take -0 for less than +0."""
    zeros = (result == 0) & (a == 0) & (b == 0)
    if not zeros.any():
        return result
    either, both = np.signbit(a) | np.signbit(b), np.signbit(a) & np.signbit(b)
    sign = either if negative_wins else both
    zero = np.where(sign, result.dtype.type(-0.0), result.dtype.type(0.0))
    return np.where(zeros, zero, result)


def minimum(a: Array, b: Array) -> Array:
    """The smaller one; the other one of a NaN (IEEE 754 minimumNumber)."""
    return _ordered_zeros(np.fmin(a, b), a, b, negative_wins=True)


def maximum(a: Array, b: Array) -> Array:
    """The larger one; the other one of a NaN (IEEE 754 maximumNumber)."""
    return _ordered_zeros(np.fmax(a, b), a, b, negative_wins=False)


def ieee_minimum(a: Array, b: Array) -> Array:
    """The smaller one; NaN of a NaN (IEEE 754 minimum)."""
    return _ordered_zeros(np.minimum(a, b), a, b, negative_wins=True)


def ieee_maximum(a: Array, b: Array) -> Array:
    """The larger one; NaN of a NaN (IEEE 754 maximum)."""
    return _ordered_zeros(np.maximum(a, b), a, b, negative_wins=False)


def median(a: Array, b: Array, c: Array) -> Array:
    """The middle one of three; the smallest where one is NaN."""
    middle = maximum(minimum(a, b), minimum(maximum(a, b), c))
    unordered = np.isnan(a) | np.isnan(b) | np.isnan(c)
    return np.where(unordered, minimum(minimum(a, b), c), middle)


def flushed(a: Array) -> Array:
    """Denormals become zero of the same sign."""
    return np.where(np.abs(a) < _SMALLEST_NORMAL, np.copysign(np.float32(0), a), a)


def exp2(a: Array) -> Array:
    """v_exp_f32: 2 to the power of a."""
    return flushed(np.exp2(flushed(a).astype(np.float64)).astype(np.float32))


def log2(a: Array) -> Array:
    """v_log_f32: the logarithm to base 2."""
    return np.log2(flushed(a).astype(np.float64)).astype(np.float32)


def reciprocal(a: Array) -> Array:
    """v_rcp_f32: 1 / a."""
    return flushed(np.float32(1) / flushed(a))


def reciprocal_square_root(a: Array) -> Array:
    """v_rsq_f32: 1 / sqrt(a)."""
    return (1 / np.sqrt(flushed(a).astype(np.float64))).astype(np.float32)


def sine(a: Array) -> Array:
    """v_sin_f32: of a turns."""
    return np.sin(2 * np.pi * a.astype(np.float64)).astype(np.float32)


def cosine(a: Array) -> Array:
    """v_cos_f32: of a turns."""
    return np.cos(2 * np.pi * a.astype(np.float64)).astype(np.float32)


def fraction(a: Array) -> Any:
    """v_fract_f32: a - floor(a), below 1."""
    below_one = np.nextafter(a.dtype.type(1), a.dtype.type(0))
    return np.minimum(a - np.floor(a), below_one)


def load_exponent(a: Array, exponent: Array) -> Array:
    """v_ldexp: a * 2 ** exponent."""
    return np.ldexp(a, exponent)


def mantissa(a: Array) -> Any:
    """v_frexp_mant: in [0.5, 1); infinities and NaN as they are."""
    return np.frexp(a)[0]


def exponent32(a: Array) -> Array:
    """v_frexp_exp_i32: the exponent that goes with `mantissa`; 0 for infinities and NaN."""
    return np.where(np.isfinite(a), np.frexp(a)[1], 0).astype(np.int32)


def _biased(a: Array) -> Array:
    """The exponent field of a float32."""
    return (np.asarray(a, np.float32).view(np.uint32) >> np.uint32(23) & np.uint32(0xFF)).astype(
        np.int32
    )


def _is_denormal(a: Array) -> Any:
    return (a != 0) & (np.abs(a) < _SMALLEST_NORMAL)


def division_scale(s0: Array, denominator: Array, numerator: Array) -> tuple[Array, Array]:
    """v_div_scale_f32: an operand of a division scaled against overflow, and whether to undo it.

    s0 is the numerator or the denominator. Second value: bool, for VCC. Where the inverse of the
    denominator and the quotient are both denormal, the pseudo-code scales the denominator up, to
    infinity; it must be down, for `division_fma` to undo.
    """
    denominator_exponent, numerator_exponent = _biased(denominator), _biased(numerator)
    is_denominator, is_numerator = s0 == denominator, s0 == numerator
    quotient = numerator.astype(np.float64) / denominator
    inverse = 1.0 / denominator.astype(np.float64)
    scaled, lowered = s0 * np.float32(2.0**64), s0 * np.float32(2.0**-64)
    invalid = (denominator == 0) | (numerator == 0)
    far_apart = numerator_exponent - denominator_exponent >= 96
    inverse_denormal = (inverse != 0) & (np.abs(inverse) < float(_SMALLEST_NORMAL))
    quotient_denormal = (quotient != 0) & (np.abs(quotient) < float(_SMALLEST_NORMAL))
    rules: list[tuple[Array, Any, bool]] = [
        (invalid, np.float32(np.nan), False),
        (far_apart, np.where(is_denominator, scaled, s0), True),
        (_is_denormal(denominator), scaled, False),
        (inverse_denormal & quotient_denormal, np.where(is_denominator, lowered, s0), True),
        (inverse_denormal, lowered, False),
        (quotient_denormal, np.where(is_numerator, scaled, s0), True),
        (numerator_exponent <= 23, scaled, False),
    ]
    shape = np.broadcast_shapes(s0.shape, denominator.shape, numerator.shape)
    conditions = [np.broadcast_to(condition, shape) for condition, _, _ in rules]
    values = [np.broadcast_to(value, shape) for _, value, _ in rules]
    flags = [np.broadcast_to(np.bool_(flag), shape) for _, _, flag in rules]
    return np.select(conditions, values, np.broadcast_to(s0, shape)), np.select(conditions, flags)


def division_fma(a: Array, b: Array, c: Array, scaled: Array) -> Array:
    """v_div_fmas_f32: the last step of a division, and the scaling undone where VCC says so.

    Rounded once, after the scaling: a denormal quotient would otherwise be rounded twice.

    The pseudo-code's factor of 2 ** 32 cannot undo one of 2 ** 64; the sign of the exponent is that
    of the quotient's, for a large one had its denominator scaled and a small one its numerator.
    """
    back = np.where(_biased(c) > 127, 2.0**64, 2.0**-64)
    product = np.multiply(a, b, dtype=np.float64)
    exact = _to_odd(product, np.asarray(c, np.float64), np.add(product, c, dtype=np.float64))
    return np.where(scaled, exact * back, exact).astype(np.float32)


def division_fixup(quotient: Array, denominator: Array, numerator: Array) -> Array:
    """v_div_fixup_f32: the special cases of a division whose quotient has been refined.

    The pseudo-code gives infinity for a denominator with exponent 255, which is infinite or NaN and
    decided before; what must become infinite is a quotient beyond all float32, for even scaled down
    it has overflowed to NaN on the way.
    """
    negative = np.signbit(denominator) ^ np.signbit(numerator)
    infinity, zero = np.float32(np.inf), np.float32(0)
    magnitude = np.abs(quotient)
    special = np.select(
        [
            (denominator == 0) & (numerator == 0),
            np.isinf(denominator) & np.isinf(numerator),
            (denominator == 0) | np.isinf(numerator),
            np.isinf(denominator) | (numerator == 0),
            _biased(numerator) - _biased(denominator) < -150,
            _biased(numerator) - _biased(denominator) > 128,
        ],
        [np.float32(np.nan), np.float32(np.nan), infinity, zero, zero, infinity],
        magnitude,
    )
    signed = np.where(negative, -special, special).astype(np.float32)
    return np.where(np.isnan(denominator) | np.isnan(numerator), np.float32(np.nan), signed)


def to_int32(a: Array) -> Array:
    """v_cvt_i32_f32: towards zero, saturated, 0 of NaN."""
    return _saturated(a, np.int32)


def to_uint32(a: Array) -> Array:
    """v_cvt_u32_f32: towards zero, saturated, 0 of NaN."""
    return _saturated(a, np.uint32)


def to_int16(a: Array) -> Array:
    """v_cvt_i16_f16: towards zero, saturated, 0 of NaN."""
    return _saturated(a, np.int16)


def to_uint16(a: Array) -> Array:
    """v_cvt_u16_f16: towards zero, saturated, 0 of NaN."""
    return _saturated(a, np.uint16)


def _saturated(a: Array, integer: type[np.integer[Any]]) -> Array:
    limits = np.iinfo(integer)
    known = np.where(np.isnan(a), 0.0, a.astype(np.float64))
    return np.clip(np.trunc(known), limits.min, limits.max).astype(integer)
