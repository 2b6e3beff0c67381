"""How near the bound the errors come: histograms of error:bound on a logarithmic axis."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from moeproof.report.page.traits import Judged

_LOWEST, _HIGHEST = -3, 3
"""The axis: powers of ten. What lies past it is counted in one more bin on either side."""
_BINS_PER_DECADE = 6
_BINS = (_HIGHEST - _LOWEST) * _BINS_PER_DECADE + 2
_BIN_OF_ONE = -_LOWEST * _BINS_PER_DECADE
"""The last bin inside the bound: its upper edge is 1."""

WIDTH, HEIGHT = 520, 84


@dataclass(frozen=True)
class Bar:
    """A rectangle in the drawing's units."""

    x: float
    y: float
    width: float
    height: float
    outside: bool
    title: str


@dataclass(frozen=True)
class Histogram:
    """The largest error:bound ratio of every case of one check and dtype.

    Attributes:
        check, dtype: what the cases share. cases: how many.
        outside: how many are above 1. median: of all; NaN counts as infinite.
        closest: the case id and ratio of the right answer that comes closest to the bound.
        bars: the drawing, ``WIDTH`` by ``HEIGHT``.
    """

    check: str
    dtype: str
    cases: int
    outside: int
    median: float
    closest: tuple[str, float] | None
    bars: tuple[Bar, ...]


def histograms(judged: Sequence[Judged]) -> list[Histogram]:
    """One for each check and dtype whose verdicts have a ``max_error_ratio``."""
    ratios: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for item in judged:
        ratio = item.verdict.figures.get("max_error_ratio")
        if ratio is not None:
            place = item.verdict.check, item.traits.named.get("dtype", "")
            ratios[place].append((math.inf if math.isnan(ratio) else ratio, item.verdict.case_id))
    return [_histogram(check, dtype, found) for (check, dtype), found in sorted(ratios.items())]


def position(ratio: float) -> float:
    """Where a ratio lies on the axis, in the drawing's units."""
    bins = (math.log10(ratio) - _LOWEST) * _BINS_PER_DECADE + 1
    return bins * WIDTH / _BINS


def ticks() -> list[tuple[float, str]]:
    """Position and label of each power of ten."""
    return [(position(10.0**power), f"{10.0**power:g}") for power in range(_LOWEST, _HIGHEST + 1)]


def _histogram(check: str, dtype: str, ratios: list[tuple[float, str]]) -> Histogram:
    values = [ratio for ratio, _ in ratios]
    inside = [(ratio, case_id) for ratio, case_id in ratios if ratio <= 1]
    closest = max(inside, default=None)
    return Histogram(
        check=check,
        dtype=dtype,
        cases=len(values),
        outside=len(values) - len(inside),
        median=median(values),
        closest=None if closest is None else (closest[1], closest[0]),
        bars=_bars(values),
    )


def _bars(values: Sequence[float]) -> tuple[Bar, ...]:
    counts = [0] * _BINS
    for value in values:
        counts[_bin_of(value)] += 1
    width = WIDTH / _BINS
    bars = []
    for index, count in enumerate(counts):
        if count:
            # One wrong case among thousands must be seen.
            height = max(HEIGHT * count / max(counts), 3)
            title = f"{_range_of(index)}: {count} case{'s' if count > 1 else ''}"
            outside = index > _BIN_OF_ONE
            bars.append(Bar(index * width, HEIGHT - height, width - 1, height, outside, title))
    return tuple(bars)


def _bin_of(ratio: float) -> int:
    """Bins hold their upper edge, so that 1 is inside the bound and anything above is not."""
    if ratio <= 10.0**_LOWEST:
        return 0
    if ratio > 10.0**_HIGHEST:
        return _BINS - 1
    index = math.ceil((math.log10(ratio) - _LOWEST) * _BINS_PER_DECADE)
    return max(index, _BIN_OF_ONE + 1) if ratio > 1 else min(index, _BIN_OF_ONE)


def _range_of(index: int) -> str:
    edges = [10.0 ** (_LOWEST + step / _BINS_PER_DECADE) for step in range(_BINS - 1)]
    if index == 0:
        return f"up to {edges[0]:.3g}"
    if index == _BINS - 1:
        return f"above {edges[-1]:.3g}, or not a number"
    return f"{edges[index - 1]:.3g} to {edges[index]:.3g}"
