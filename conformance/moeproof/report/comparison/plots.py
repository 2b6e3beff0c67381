"""Drawings of a comparison: each group's ratio of errors with its interval, on one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from moeproof.report.comparison.comparison import ErrorGroup
from moeproof.report.comparison.error_class import RATIO_BAND

WIDTH, ROW_HEIGHT = 360, 16
_LARGEST = 4.0
"""The axis is logarithmic, from its reciprocal to it; what lies past it is drawn at its end."""

TICKS = tuple((ratio, f"{ratio:g}") for ratio in (0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0))


@dataclass(frozen=True)
class RatioRow:
    """One group's estimate and interval in the drawing's units, and the group."""

    group: ErrorGroup
    y: float
    estimate: float
    lower: float
    upper: float


def ratio_rows(groups: Sequence[ErrorGroup]) -> list[RatioRow]:
    """The groups from top to bottom."""
    return [
        RatioRow(
            group,
            (index + 0.5) * ROW_HEIGHT,
            position(group.errors.ratio.estimate),
            position(group.errors.ratio.lower),
            position(group.errors.ratio.upper),
        )
        for index, group in enumerate(groups)
    ]


def position(ratio: float) -> float:
    """Where a ratio lies on the axis, in the drawing's units."""
    inside = min(max(ratio, 1 / _LARGEST), _LARGEST)
    return (math.log(inside) / math.log(_LARGEST) + 1) / 2 * WIDTH


def band() -> tuple[float, float]:
    """Left edge and width of the ratios that count as one class."""
    left, right = (position(ratio) for ratio in RATIO_BAND)
    return left, right - left
