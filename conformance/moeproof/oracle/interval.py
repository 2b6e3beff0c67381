"""For every output element the interval in which a right implementation lands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moeproof.number_format import NumberFormat
from moeproof.oracle.rounding import round_to_nearest, spacing

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_FLOAT64_SLACK = 2.0**-20  # relative widening, for the float64 arithmetic on the bound itself


@dataclass(frozen=True)
class Interval:
    """What a right implementation may return. All arrays (T, H); float64 but for ``overflow``.

    Attributes:
        fmt: the output's format.
        centre: middle of the range of right values before the output is rounded. It is the value
            under exact arithmetic where no rounding point is declared "yes".
        bound: half the width of that range.
        lower, upper: RN(centre - bound) and RN(centre + bound): right outputs lie between.
        overflow: elements that some legal intermediate value may overflow; they are not judged.
        emulated: the value with the declared roundings alone, before the output is rounded.
        variance: of a right output around ``emulated``, for random signs; an upper limit.
        independent_outputs: how many of the judged outputs can err independently. A token's
            outputs share the errors of its intermediate values, so it has no more than those.
    """

    fmt: NumberFormat
    centre: Float64Array
    bound: Float64Array
    lower: Float64Array
    upper: Float64Array
    overflow: BoolArray
    emulated: Float64Array
    variance: Float64Array
    independent_outputs: int

    @classmethod
    def around(
        cls,
        centre: Float64Array,
        bound: Float64Array,
        *,
        fmt: NumberFormat,
        overflow: BoolArray,
        emulated: Float64Array,
        variance: Float64Array,
        errors_per_token: NDArray[np.int64],
    ) -> Interval:
        """The interval centre +- bound after rounding to ``fmt``, everything where ``overflow``.

        ``errors_per_token`` (T,) is the number of intermediate values that a token's outputs
        are made of.
        """
        overflow = overflow | ~(np.abs(centre) + bound <= fmt.largest)
        centre, emulated = (np.where(overflow, 0.0, array) for array in (centre, emulated))
        bound = np.where(overflow, np.inf, bound * (1 + _FLOAT64_SLACK))
        return cls(
            fmt=fmt,
            centre=centre,
            bound=bound,
            lower=round_to_nearest(centre - bound, fmt),
            upper=round_to_nearest(centre + bound, fmt),
            overflow=overflow,
            emulated=emulated,
            variance=np.where(overflow, 0.0, variance + spacing(emulated, fmt) ** 2 / 12),
            independent_outputs=int(np.minimum((~overflow).sum(axis=1), errors_per_token).sum()),
        )

    def accepts(self, actual: NDArray[np.generic]) -> BoolArray:
        """(T, H): where ``actual`` is right or not judged. NaN is right nowhere; -0 equals +0."""
        values = self._float64(actual)
        return np.asarray((self.lower <= values) & (values <= self.upper) | self.overflow)

    def error_ratio(self, actual: NDArray[np.generic]) -> Float64Array:
        """(T, H): |actual - centre| over (bound + half the spacing of the output's numbers).

        Above 1 exactly where :meth:`accepts` refuses; infinite for NaN and infinities, 0 where
        the element is not judged.
        """
        values = self._float64(actual)
        finite = np.isfinite(values)
        values = np.where(finite, values, 0.0)
        nearer_end = np.where(values > self.centre, self.upper, self.lower)
        reach = self.bound + spacing(nearer_end, self.fmt) / 2
        ratio = np.abs(values - self.centre) / reach
        accepted = self.accepts(values)
        ratio = np.where(accepted, np.minimum(ratio, 1.0), np.maximum(ratio, np.nextafter(1, 2)))
        return np.where(self.overflow, 0.0, np.where(finite, ratio, np.inf))

    def _float64(self, actual: NDArray[np.generic]) -> Float64Array:
        if actual.shape != self.centre.shape:
            raise ValueError(f"actual must have shape {self.centre.shape}, got {actual.shape}")
        return actual.astype(np.float64)
