from __future__ import annotations

import numpy as np
import pytest

from moeproof.number_format import BF16, FP16, FP32, TF32, NumberFormat
from moeproof.oracle.rounding import round_to_nearest, spacing


def every_value(fmt: NumberFormat) -> np.ndarray:
    """All non-negative finite numbers of a 16-bit format, ascending, as float64."""
    infinity = np.array([np.inf], dtype=fmt.numpy_dtype).view(np.uint16)[0]
    return np.arange(infinity, dtype=np.uint16).view(fmt.numpy_dtype).astype(np.float64)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return np.array_equal(left, right) and np.array_equal(np.signbit(left), np.signbit(right))


@pytest.mark.parametrize("fmt", [BF16, FP16], ids=lambda fmt: fmt.name)
class TestSixteenBitFormats:
    def test_every_number_stays(self, fmt: NumberFormat) -> None:
        values = every_value(fmt)
        assert same(round_to_nearest(values, fmt), values)
        assert same(round_to_nearest(-values, fmt), -values)

    def test_every_boundary(self, fmt: NumberFormat) -> None:
        """Just below, at and just above the middle of every two neighbours, both signs."""
        values = every_value(fmt)
        low, high = values[:-1], values[1:]
        middle = (low + high) / 2
        even = np.where(np.arange(len(low)) % 2 == 0, low, high)
        for sign in (1.0, -1.0):
            for probe, expected in (
                (np.nextafter(middle, -np.inf), low),
                (middle, even),
                (np.nextafter(middle, np.inf), high),
            ):
                assert same(round_to_nearest(sign * probe, fmt), sign * expected)

    def test_overflow(self, fmt: NumberFormat) -> None:
        half = fmt.largest * fmt.unit_roundoff / (2 - 2 * fmt.unit_roundoff)
        below = np.nextafter(fmt.largest + half, 0.0)
        values = np.array([below, -below, fmt.largest + half, -fmt.largest - half, np.inf])
        expected = np.array([fmt.largest, -fmt.largest, np.inf, -np.inf, np.inf])
        assert same(round_to_nearest(values, fmt), expected)

    def test_spacing_is_the_distance_to_the_next_number(self, fmt: NumberFormat) -> None:
        values = every_value(fmt)
        assert np.array_equal(spacing(values[:-1], fmt), np.diff(values))
        assert np.array_equal(spacing(-values[:-1], fmt), np.diff(values))


@pytest.mark.parametrize("fmt", [FP16, FP32], ids=lambda fmt: fmt.name)
def test_agrees_with_numpy_casts(fmt: NumberFormat) -> None:
    """numpy casts float64 to float16 and float32 with one rounding."""
    random = np.random.default_rng(1)
    mantissas = random.uniform(-2, 2, 200_000)
    values = np.ldexp(mantissas, random.integers(fmt.min_exponent - 30, 132, mantissas.shape))
    with np.errstate(over="ignore"):
        expected = values.astype(fmt.numpy_dtype).astype(np.float64)
    assert same(round_to_nearest(values, fmt), expected)


def test_agrees_with_the_bfloat16_cast_of_float32() -> None:
    """ml_dtypes casts float32 to bfloat16 with one rounding."""
    random = np.random.default_rng(2)
    patterns = random.integers(0, 2**32, 400_000, dtype=np.uint32)
    values = patterns.view(np.float32)
    values = values[np.isfinite(values)]
    expected = values.astype(BF16.numpy_dtype).astype(np.float64)
    assert same(round_to_nearest(values.astype(np.float64), BF16), expected)


def test_tf32_keeps_eleven_bits() -> None:
    values = np.array([1 + 2.0**-10, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 2.0**-136, 2.0**-137])
    expected = np.array([1 + 2.0**-10, 1.0, 1 + 2.0**-9, 2.0**-136, 0.0])
    assert same(round_to_nearest(values, TF32), expected)


def test_not_a_number_stays_one() -> None:
    assert np.isnan(round_to_nearest(np.array([np.nan]), BF16)).all()
