"""Correct rounding of float64 values to a narrower format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moeproof.number_format import NumberFormat

Float64Array = NDArray[np.float64]


def spacing(values: Float64Array, fmt: NumberFormat) -> Float64Array:
    """Distance between the format's numbers in the binade of each value (any shape).

    Zero and everything below the smallest normal number have the subnormal spacing. Not finite
    values have the spacing of zero, so that sums with it stay meaningful where they are masked.
    """
    exponent = np.frexp(np.where(np.isfinite(values), values, 0.0))[1] - 1
    exponent = np.where(values == 0, fmt.min_exponent, np.maximum(exponent, fmt.min_exponent))
    return np.asarray(np.ldexp(1.0, exponent - (fmt.significand_bits - 1)))


def round_to_nearest(values: Float64Array, fmt: NumberFormat) -> Float64Array:
    """Each value rounded once to the format: nearest, ties to even, subnormals kept.

    Overflow gives infinity as IEEE 754 prescribes; infinities and NaN stay what they are.
    """
    step = spacing(values, fmt)
    finite = np.isfinite(values)
    rounded = np.rint(np.where(finite, values, 0.0) / step) * step
    rounded = np.where(np.abs(rounded) > fmt.largest, np.copysign(np.inf, rounded), rounded)
    return np.asarray(np.where(finite, rounded, values))
