"""What holds for every step of one call: format, rounding points, accumulators, kind of bound."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moeproof.number_format import FP32, NumberFormat
from moeproof.oracle.error_bound import ACCUMULATORS, Accumulator, tail_factor
from moeproof.oracle.estimate import Estimate, after_rounding
from moeproof.oracle.rounding import round_to_nearest
from moeproof.rounding_profile import Rounding, RoundingProfile

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """The rules of one implementation for one call.

    Attributes:
        fmt: format of the storage and of the output.
        profile: the declared rounding points; none for fp32 storage.
        accumulator: of the matrix products.
        tail: lambda of the probabilistic bounds; None where signs are not random.
    """

    fmt: NumberFormat
    profile: RoundingProfile
    accumulator: Accumulator
    tail: float | None

    @classmethod
    def of(
        cls, profile: RoundingProfile, fmt: NumberFormat, *, outputs: int, independent_signs: bool
    ) -> Rules:
        """Rules for a call with so many outputs, with the profile's defaults filled in."""
        accumulator = profile.accumulator
        if accumulator == "default":
            accumulator = "fma" if fmt == FP32 else "mma"
        if fmt == FP32:  # every value is a float32 already: rounding to storage does nothing
            profile = replace(
                profile,
                gate_up="no",
                silu="no",
                intermediate="no",
                expert_output="no",
                weights_applied="before",
                combine_in_output_dtype=False,
                weights_in_storage_dtype=False,
            )
        tail = tail_factor(outputs) if independent_signs else None
        return cls(fmt, profile, ACCUMULATORS[accumulator], tail)

    def rounded(self, exact: Estimate, rounding: Rounding) -> tuple[Estimate, NDArray[np.bool_]]:
        """After a rounding point, and where the value may overflow there."""
        fmt = FP32 if rounding == "no" else self.fmt
        return after_rounding(exact, self.fmt, rounding), exact.may_overflow(fmt)

    def likely(self, worst: Float64Array, squares: Float64Array) -> Float64Array:
        """A sum of errors, from the sum of their bounds and that of their bounds' squares.

        With independent random signs it stays below lambda sqrt(squares) (Hoeffding).
        """
        if self.tail is None:
            return worst
        return np.minimum(worst, self.tail * np.sqrt(squares))

    def routing_weight(self, weight: Float64Array) -> Float64Array:
        """The routing weights (S, 1) as they are used."""
        if self.profile.weights_in_storage_dtype:
            return round_to_nearest(weight, self.fmt)
        return weight

    def subnormal_part(self, values: Float64Array) -> Float64Array:
        """Magnitudes of the storage format's subnormal values, zero for all others."""
        magnitude = np.abs(values)
        return np.where(magnitude < 2.0**self.fmt.min_exponent, magnitude, 0.0)
