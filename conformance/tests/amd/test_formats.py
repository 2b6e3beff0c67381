"""Narrow formats against their definitions by sign, exponent and mantissa, in exact fractions."""

from __future__ import annotations

import math
from bisect import bisect_left
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeproof.amd import formats
from moeproof.amd.formats import NarrowFloat

# exponent bits, mantissa bits, bias, kind of special values
DEFINITIONS = {
    "e4m3fn": (4, 3, 7, "nan only"),
    "e5m2": (5, 2, 15, "ieee"),
    "e4m3fnuz": (4, 3, 8, "fnuz"),
    "e5m2fnuz": (5, 2, 16, "fnuz"),
    "e2m3": (2, 3, 1, "none"),
    "e3m2": (3, 2, 3, "none"),
    "e2m1": (2, 1, 1, "none"),
}
ALL = [
    formats.E4M3FN,
    formats.E5M2,
    formats.E4M3FNUZ,
    formats.E5M2FNUZ,
    formats.E2M3,
    formats.E3M2,
    formats.E2M1,
]
EIGHT_BITS = ALL[:4]


def defined(name: str, code: int) -> Fraction | float:
    exponent_bits, mantissa_bits, bias, special = DEFINITIONS[name]
    mantissa = code % 2**mantissa_bits
    exponent = code >> mantissa_bits & (2**exponent_bits - 1)
    sign = -1 if code >> (exponent_bits + mantissa_bits) else 1
    top = exponent == 2**exponent_bits - 1
    if special == "fnuz" and (code == 0x80):
        return math.nan
    if special == "nan only" and top and mantissa == 2**mantissa_bits - 1:
        return math.nan
    if special == "ieee" and top:
        return math.nan if mantissa else sign * math.inf
    scale = Fraction(2) ** (max(exponent, 1) - bias)
    return sign * scale * (Fraction(mantissa, 2**mantissa_bits) + (1 if exponent else 0))


@cache
def known_codes(name: str, bits: int) -> tuple[list[int], list[tuple[Fraction, int]]]:
    """The codes of NaN, and the values and codes of zero and the positive numbers in order."""
    codes = {code: defined(name, code) for code in range(2**bits)}
    nans = [code for code, value in codes.items() if same(math.nan, value)]
    half = [codes[code] for code in range(2 ** (bits - 1))]
    return nans, sorted((v, c) for c, v in enumerate(half) if isinstance(v, Fraction))


def same(a: float, b: Fraction | float) -> bool:
    return math.isnan(a) if isinstance(b, float) and math.isnan(b) else a == b


def nearest(value: float, narrow: NarrowFloat, *, saturate: bool) -> list[int]:
    """The codes that are right for a value, by exact distance; more than one for NaN."""
    nans, finite = known_codes(narrow.name, narrow.bits)
    has_infinity = narrow.name == "e5m2"
    sign_bit = 2 ** (narrow.bits - 1) if math.copysign(1, value) < 0 else 0
    if math.isnan(value):
        return nans
    if math.isinf(value):
        return [0x7C | sign_bit] if has_infinity else nans
    magnitude = abs(Fraction(value))
    at = bisect_left(finite, (magnitude, 0))
    largest, step = finite[-1][0], finite[-1][0] - finite[-2][0]
    if at == len(finite):
        tie_goes_up = finite[-1][1] % 2 == 1
        over = magnitude - largest > step / 2 or (magnitude - largest == step / 2 and tie_goes_up)
        if over and not saturate:
            return [0x7C | sign_bit] if has_infinity else nans
        code = finite[-1][1]
    elif at == 0:
        code = 0
    else:
        below, above = finite[at - 1], finite[at]
        to_below, to_above = magnitude - below[0], above[0] - magnitude
        if to_below != to_above:
            code = below[1] if to_below < to_above else above[1]
        else:
            code = below[1] if below[1] % 2 == 0 else above[1]
    if code == 0 and narrow.name.endswith("fnuz"):
        return [0]
    return [code | sign_bit]


@pytest.mark.parametrize("narrow", ALL, ids=lambda f: f.name)
def test_values_are_those_of_the_definition(narrow: NarrowFloat) -> None:
    codes = np.arange(2**narrow.bits, dtype=np.uint8)
    for code, value in zip(codes.tolist(), formats.decode(codes, narrow).tolist(), strict=True):
        assert same(value, defined(narrow.name, code)), code


@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("narrow", EIGHT_BITS, ids=lambda f: f.name)
def test_rounding_at_and_beside_every_value_and_tie(narrow: NarrowFloat, saturate: bool) -> None:
    numbers = np.unique(narrow.values[np.isfinite(narrow.values)]).astype(np.float32)
    ties = (numbers[1:] + numbers[:-1]) / np.float32(2)
    beyond = np.float32(narrow.largest) + (numbers[-1] - numbers[-2]) * np.float32([0.5, 0.6, 9])
    points = np.concatenate([numbers, ties, beyond, -beyond, np.float32([0, -0.0, 1e30, -1e-30])])
    infinity = np.float32(np.inf)
    points = np.concatenate(
        [points, np.nextafter(points, infinity), np.nextafter(points, -infinity)]
    )
    points = np.concatenate([points, np.float32([np.nan, np.inf, -np.inf])])
    for dtype in (np.float32, np.float64):
        codes = formats.encode(points.astype(dtype), narrow, saturate=saturate)
        for value, code in zip(points.tolist(), codes.tolist(), strict=True):
            assert code in nearest(value, narrow, saturate=saturate), (value, code)


@given(st.floats(width=32), st.sampled_from(EIGHT_BITS), st.booleans())
def test_rounding_anywhere(value: float, narrow: NarrowFloat, saturate: bool) -> None:
    (code,) = formats.encode(np.float32([value]), narrow, saturate=saturate)
    assert code in nearest(value, narrow, saturate=saturate)


@given(st.floats(-100, 100), st.sampled_from(ALL[4:]))
def test_formats_without_nan_saturate(value: float, narrow: NarrowFloat) -> None:
    (code,) = formats.encode(np.array([value]), narrow, saturate=False)
    assert code in nearest(value, narrow, saturate=True)


@pytest.mark.parametrize(
    ("arch", "kind", "narrow"),
    [
        ("gfx942", "fp8", formats.E4M3FNUZ),
        ("gfx942", "bf8", formats.E5M2FNUZ),
        ("gfx950", "fp8", formats.E4M3FN),
        ("gfx1201", "bf8", formats.E5M2),
    ],
)
def test_each_architecture_has_its_own_eight_bits(
    arch: str, kind: str, narrow: NarrowFloat
) -> None:
    assert formats.eight_bit_format(kind, arch) is narrow


def test_what_has_no_eight_bit_floats_is_named() -> None:
    with pytest.raises(ValueError, match="'gfx90a'"):
        formats.eight_bit_format("fp8", "gfx90a")
    with pytest.raises(ValueError, match="'fp4'"):
        formats.eight_bit_format("fp4", "gfx950")


def half(bits: int) -> Fraction:
    exponent, mantissa = bits >> 10 & 31, bits & 1023
    return Fraction(2) ** (max(exponent, 1) - 25) * (mantissa + (1024 if exponent else 0))


HALVES = [half(bits) for bits in range(0x7C00)]


@given(st.floats(width=32))
def test_rounding_to_half_precision_toward_zero_and_to_nearest(value: float) -> None:
    source = np.float32([value])
    (down,) = formats.f32_to_f16_toward_zero(source).view(np.uint16).tolist()
    (near,) = formats.f32_to_f16(source).view(np.uint16).tolist()
    (clamped,) = formats.f32_to_f16(source, saturate=True).view(np.uint16).tolist()
    sign = 0x8000 if math.copysign(1, value) < 0 else 0
    if math.isnan(value):
        assert all(bits & 0x7FFF > 0x7C00 for bits in (down, near, clamped))
        return
    if math.isinf(value):
        assert {down, near, clamped} == {0x7C00 | sign}
        return
    magnitude = abs(Fraction(value))
    at = bisect_left(HALVES, magnitude)
    exact = at < len(HALVES) and HALVES[at] == magnitude
    assert down == (at if exact else at - 1) | sign
    if magnitude >= 65520:
        assert near == 0x7C00 | sign
        assert clamped == 0x7BFF | sign
    else:
        choices = [c for c in (at - 1, at) if 0 <= c < len(HALVES)]
        right = min(choices, key=lambda c: (abs(HALVES[c] - magnitude), c % 2))
        assert near == clamped == right | sign


@given(st.floats(width=32))
def test_rounding_to_bfloat16(value: float) -> None:
    source = np.float32([value])
    (code,) = formats.f32_to_bf16(source).tolist()
    (bits,) = source.view(np.uint32).tolist()
    if math.isnan(value):
        assert code & 0x7FFF > 0x7F80
        return
    # Truncation is the neighbour toward zero; the next code up the other, infinity included.
    down = bits >> 16
    rest = bits & 0xFFFF
    assert code == (down + 1 if rest > 0x8000 or (rest == 0x8000 and down & 1) else down)
    (back,) = formats.bf16_to_f32(np.array([code], np.uint16)).view(np.uint32).tolist()
    assert back == code << 16


def test_denormals_are_flushed_with_their_sign() -> None:
    values = np.float32([1e-40, -1e-40, 0.0, -0.0, 2.0**-126, -1, np.inf])
    got = formats.flush_denormals(values)
    np.testing.assert_array_equal(got, np.float32([0, 0, 0, 0, 2.0**-126, -1, np.inf]))
    assert np.signbit(got).tolist() == [False, True, False, True, False, True, False]
    assert got.dtype == np.float32
    assert np.isnan(formats.flush_denormals(np.float32([np.nan]))).all()
    tiny = formats.flush_denormals(np.float16([6e-8, -6e-5, 1]))
    assert tiny.tolist() == [0, 0, 1]
