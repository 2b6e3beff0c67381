"""What is known about one intermediate tensor of a right implementation, step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moeproof.number_format import FP32, NumberFormat
from moeproof.oracle.error_bound import (
    FLOAT32_ROUNDOFF,
    FLOAT32_UNDERFLOW,
    silu_bound,
    silu_evaluation_error,
    silu_slope,
)
from moeproof.oracle.forward import silu
from moeproof.oracle.rounding import round_to_nearest, spacing
from moeproof.rounding_profile import Rounding

Float64Array = NDArray[np.float64]

_RARE_FLIP = 0.02  # least weight of a possible flip, so that a rare one is no outlier
_FLOAT64_SLACK = 1e-15  # relative error of the oracle's own elementwise arithmetic, and to spare


@dataclass(frozen=True)
class Estimate:
    """Where the elements of a tensor can lie, and where they most likely do. All (S, N).

    Attributes:
        value, error: every right implementation's element lies in value +- error.
        emulated: the element under exact arithmetic with the declared roundings alone.
        variance: of a right implementation's element around ``emulated``.
    """

    value: Float64Array
    error: Float64Array
    emulated: Float64Array
    variance: Float64Array

    @property
    def reach(self) -> Float64Array:
        """The largest magnitude that the element can have."""
        return np.asarray(np.abs(self.value) + self.error)

    def without(self, dropped: NDArray[np.bool_]) -> Estimate:
        """The same with zeros where ``dropped``."""
        kept = (self.value, self.error, self.emulated, self.variance)
        return Estimate(*(np.where(dropped, 0.0, array) for array in kept))

    def may_overflow(self, fmt: NumberFormat = FP32) -> NDArray[np.bool_]:
        """Where the element may reach the largest number of the format, or is not finite."""
        return np.asarray(~(self.reach < fmt.largest))

    def columns(self, selected: slice) -> Estimate:
        """The same for some of the columns."""
        return Estimate(
            self.value[:, selected],
            self.error[:, selected],
            self.emulated[:, selected],
            self.variance[:, selected],
        )


def exactly(values: Float64Array) -> Estimate:
    """Values without an error."""
    return Estimate(values, np.zeros_like(values), values, np.zeros_like(values))


def after_silu(gate: Estimate) -> Estimate:
    """SiLU of the gate in float32, by any exponential that is accurate to two units."""
    value = silu(gate.value)
    evaluation = silu_evaluation_error(gate.emulated) * np.abs(value)
    return Estimate(
        value,
        silu_bound(gate.value, gate.error),
        silu(gate.emulated),
        silu_slope(gate.emulated) ** 2 * gate.variance + evaluation**2 / 9,
    )


def after_multiplication(left: Estimate, right: Estimate) -> Estimate:
    """The product of two tensors, rounded to float32.

    e = |a| e_b + |b| e_a + e_a e_b, then 2^-24 (|ab| + e) + 2^-126 more for the rounding.
    """
    value = left.value * right.value
    error = np.abs(left.value) * right.error + right.reach * left.error
    error = error + FLOAT32_ROUNDOFF * (np.abs(value) + error) + FLOAT32_UNDERFLOW
    emulated = left.emulated * right.emulated
    variance = left.emulated**2 * right.variance + right.emulated**2 * left.variance
    variance = variance + (FLOAT32_ROUNDOFF * emulated) ** 2 / 3
    return Estimate(value, error, emulated, variance)


def after_rounding(exact: Estimate, fmt: NumberFormat, rounding: Rounding) -> Estimate:
    """A rounding point.

    Declared: [RN(v - e), RN(v + e)], for rounding is monotone. Not declared: e + u (|v| + e) +
    half the subnormal spacing, which also holds if the tensor carries a factor at this point
    (kernels that multiply the intermediate value by the routing weight). The variance of a
    declared point is that of flips by one spacing, likelier the nearer the emulated value is to
    the middle between two numbers: q^2 max(exp(-d^2 / 2 variance), 0.02).
    """
    if rounding == "no":
        return exact
    half_subnormal = fmt.smallest_subnormal / 2
    if rounding == "maybe":
        relative = fmt.unit_roundoff
        added = relative * np.abs(exact.emulated)
        return Estimate(
            exact.value,
            exact.error + relative * exact.reach + half_subnormal,
            exact.emulated,
            exact.variance + (added**2 + half_subnormal**2) / 3,
        )
    widened = exact.error + _FLOAT64_SLACK * exact.reach
    lower = round_to_nearest(exact.value - widened, fmt)
    upper = round_to_nearest(exact.value + widened, fmt)
    return Estimate(
        (lower + upper) / 2,
        (upper - lower) / 2,
        round_to_nearest(exact.emulated, fmt),
        _flip_variance(exact, fmt),
    )


def after_flush(operand: Estimate, fmt: NumberFormat) -> Estimate:
    """An operand that may be taken as zero where it is subnormal in the format."""
    smallest = 2.0**fmt.min_exponent
    may_vanish = np.abs(operand.value) - operand.error < smallest
    lost = np.where(may_vanish, np.minimum(operand.reach, smallest), 0.0)
    return replace(operand, error=operand.error + lost, variance=operand.variance + lost**2)


def _flip_variance(exact: Estimate, fmt: NumberFormat) -> Float64Array:
    step = spacing(exact.emulated, fmt)
    position = np.abs(exact.emulated) / step
    distance = np.abs(position - np.floor(position) - 0.5) * step
    deviation = np.sqrt(exact.variance)
    ratio = np.minimum(distance, 8 * deviation) / np.where(deviation > 0, deviation, 1.0)
    flips = step**2 * np.maximum(np.exp(-0.5 * ratio**2), _RARE_FLIP)
    wide = np.where(deviation > step, exact.variance / 4, 0.0)
    return np.where(distance <= exact.error, flips + wide, 0.0)
