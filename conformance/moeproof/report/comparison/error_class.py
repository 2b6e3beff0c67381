"""Are two outputs' errors of one class? The statistic that says so.

Both runs had the same inputs, so their errors are compared block by block of tokens. With
z = (actual - exact) / standard deviation, errors are of one class if the 90% bootstrap interval of
RMS(z_B) / RMS(z_A) lies within [0.8, 1.25] and that of the difference of their biases, each
sum(z sign(exact)) / sqrt(outputs sum(z^2)), within [-0.05, 0.05]. Resampled are blocks of tokens,
for the outputs of a token share the errors of its intermediate values (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapters 8 and 16).

For fp32 neither is judged: orders of summation that are all legal differ by factors, and a legal
exponential may be biased by one unit. There each run has its bound and its R statistic alone.

A part of a run, such as one pattern, holds too few outputs to be shown to be of one class. It is
of another if one of its intervals lies wholly outside of its band.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moeproof.error_sketch import ErrorSketch

RATIO_BAND = (0.8, 1.25)
BIAS_BAND = (-0.05, 0.05)
_CONFIDENCE = 0.90
_RESAMPLES = 1000
_WEIGHTS_AT_ONCE = 2**20

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its 90% interval."""

    estimate: float
    lower: float
    upper: float

    def within(self, band: tuple[float, float]) -> bool:
        """Whether all of the interval lies in a band."""
        return band[0] <= self.lower and self.upper <= band[1]

    def outside(self, band: tuple[float, float]) -> bool:
        """Whether none of the interval lies in a band."""
        return self.upper < band[0] or band[1] < self.lower

    @property
    def magnitude(self) -> Interval:
        """The same without the estimate's sign."""
        if self.estimate >= 0:
            return self
        return Interval(-self.estimate, -self.upper, -self.lower)

    def __str__(self) -> str:
        return f"{self.estimate:.3g} [{self.lower:.3g}, {self.upper:.3g}]"


@dataclass(frozen=True)
class ErrorClass:
    """The errors of run B beside those of run A.

    Attributes:
        cases, outputs: how many were compared.
        ratio: RMS(z_B) / RMS(z_A).
        first_bias, second_bias: mean of z sign(exact), in units of the RMS of z.
        bias_difference: B's less A's; below zero B errs towards zero.
    """

    cases: int
    outputs: int
    ratio: Interval
    first_bias: float
    second_bias: float
    bias_difference: Interval

    @property
    def is_one(self) -> bool:
        """Whether both intervals lie within their bands."""
        return self.ratio.within(RATIO_BAND) and self.bias_difference.within(BIAS_BAND)

    @property
    def is_other(self) -> bool:
        """Whether one of the intervals lies wholly outside of its band."""
        return self.ratio.outside(RATIO_BAND) or self.bias_difference.outside(BIAS_BAND)

    def difference(self) -> str:
        """What keeps the errors from being of one class; empty if they are."""
        found = []
        if not self.ratio.within(RATIO_BAND):
            found.append(f"{self.ratio} times as large as A's")
        if not self.bias_difference.within(BIAS_BAND):
            where = "towards" if self.bias_difference.estimate < 0 else "away from"
            found.append(f"shifted {where} zero by {self.bias_difference.magnitude} of their RMS")
        words = f"B's errors are {' and '.join(found)}" if found else ""
        return words if self.is_other or self.is_one else f"{words}: too few to tell"


def error_class(sketches: Iterable[tuple[ErrorSketch, ErrorSketch]]) -> ErrorClass | None:
    """The errors of pairs of outputs, or None if no pair has sums of z."""
    kept = [pair for pair in sketches if sum(pair[0].counts)]
    if not kept:
        return None
    counts = _flat(a.counts for a, _ in kept)
    sums = np.stack(
        [
            counts,
            _flat(a.squares for a, _ in kept),
            _flat(a.signed for a, _ in kept),
            _flat(b.squares for _, b in kept),
            _flat(b.signed for _, b in kept),
        ],
        axis=1,
    )
    total = _figures(sums.sum(axis=0)[None])
    resampled = _figures(_resample(sums))
    return ErrorClass(
        cases=len(kept),
        outputs=int(counts.sum()),
        ratio=_interval(total[0], resampled[0]),
        first_bias=float(total[1][0]),
        second_bias=float(total[2][0]),
        bias_difference=_interval(total[2] - total[1], resampled[2] - resampled[1]),
    )


def _flat(blocks: Iterable[Sequence[float]]) -> Float64Array:
    return np.array([value for values in blocks for value in values], dtype=np.float64)


def _resample(sums: Float64Array) -> Float64Array:
    """(resamples, columns): sums over as many blocks as there are, drawn with replacement."""
    blocks = len(sums)
    random = np.random.Generator(np.random.Philox(key=0))
    shares = np.full(blocks, 1 / blocks)
    at_once = max(1, _WEIGHTS_AT_ONCE // blocks)
    parts = []
    for start in range(0, _RESAMPLES, at_once):
        size = min(at_once, _RESAMPLES - start)
        parts.append(random.multinomial(blocks, shares, size=size) @ sums)
    return np.concatenate(parts)


def _figures(totals: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Ratio of the RMS, first and second bias, of sums (N, 5)."""
    counts, squares_a, signed_a, squares_b, signed_b = totals.T
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(np.where(squares_a == squares_b, 1.0, squares_b / squares_a))
        first = np.where(squares_a > 0, signed_a / np.sqrt(counts * squares_a), 0.0)
        second = np.where(squares_b > 0, signed_b / np.sqrt(counts * squares_b), 0.0)
    return ratio, first, second


def _interval(estimate: Float64Array, resampled: Float64Array) -> Interval:
    tail = (1 - _CONFIDENCE) / 2
    # Ratios may be infinite, so no interpolation between two of them.
    lower, upper = np.quantile(resampled, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(estimate[0]), float(lower), float(upper))


def equal_bits(sketches: Iterable[tuple[ErrorSketch, ErrorSketch]]) -> float:
    """The share of sampled outputs that are equal bit for bit; NaN if none was sampled."""
    same = sampled = 0
    for first, second in sketches:
        for left, right in zip(first.sampled_bits(), second.sampled_bits(), strict=True):
            same += left == right
            sampled += 1
    return same / sampled if sampled else math.nan
