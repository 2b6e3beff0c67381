"""Drawings of one failure: tokens per expert, and where in the output the errors are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeGuard

from moeproof.verdict import WorstElement

LEVELS = (
    (0.5, "at most half of the bound"),
    (1.0, "inside the bound"),
    (2.0, "up to 2 times the bound"),
    (10.0, "up to 10 times the bound"),
    (100.0, "up to 100 times the bound"),
)
"""Largest error:bound ratio of each shade of a heat map, and what it means."""
TOP_LEVEL = "above 100 times the bound, or not a number"

BAR_HEIGHT = 60


@dataclass(frozen=True)
class HeatMap:
    """The largest error:bound ratio in each cell of a coarse grid over the output.

    Attributes:
        rows, columns: of the grid. tokens, hidden_size: of the output.
        shades: level, its meaning and an SVG path over its cells, of the levels that occur.
        worst: column and row of the worst element's cell, or None.
    """

    rows: int
    columns: int
    tokens: int
    hidden_size: int
    shades: tuple[tuple[int, str, str], ...]
    worst: tuple[int, int] | None


@dataclass(frozen=True)
class ExpertLoad:
    """Tokens that each expert got.

    Attributes:
        bars: expert, tokens, height up to ``BAR_HEIGHT``, and whether the worst element's token
            went there, of the experts that got any.
        experts: E. most: tokens of the busiest expert. empty: experts without a token.
    """

    bars: tuple[tuple[int, int, float, bool], ...]
    experts: int
    most: int
    empty: int


def heat_map(evidence: Mapping[str, Any], worst: WorstElement | None) -> HeatMap | None:
    """The drawing of ``error_ratio_map`` and ``shape``, or None where there is none."""
    grid, shape = evidence.get("error_ratio_map"), evidence.get("shape")
    if not (_is_grid(grid) and _is_numbers(shape) and len(shape) == 2):
        return None
    rows, columns = len(grid), len(grid[0])
    paths: dict[int, list[str]] = {}
    for y, row in enumerate(grid):
        x = 0
        for level, cells in groupby(row, key=_level):
            run = len(list(cells))
            paths.setdefault(level, []).append(f"M{x},{y}h{run}v1h-{run}z")
            x += run
    meanings = [*(meaning for _, meaning in LEVELS), TOP_LEVEL]
    return HeatMap(
        rows=rows,
        columns=columns,
        tokens=int(shape[0]),
        hidden_size=int(shape[1]),
        shades=tuple((level, meanings[level], "".join(paths[level])) for level in sorted(paths)),
        worst=None
        if worst is None
        else (_chunk(worst.column, shape[1], columns), _chunk(worst.token, shape[0], rows)),
    )


def expert_load(evidence: Mapping[str, Any], worst: WorstElement | None) -> ExpertLoad | None:
    """The drawing of ``tokens_per_expert``, or None where there is none."""
    tokens = evidence.get("tokens_per_expert")
    if not _is_numbers(tokens):
        return None
    most = max(tokens)
    marked: Iterable[int] = worst.experts if worst else ()
    return ExpertLoad(
        bars=tuple(
            (expert, count, BAR_HEIGHT * count / max(most, 1), expert in marked)
            for expert, count in enumerate(tokens)
            if count
        ),
        experts=len(tokens),
        most=most,
        empty=sum(count == 0 for count in tokens),
    )


def _level(ratio: float) -> int:
    for level, (limit, _) in enumerate(LEVELS):
        if ratio <= limit:
            return level
    return len(LEVELS)


def _chunk(index: int, size: int, chunks: int) -> int:
    """In which of ``numpy.array_split``'s chunks an index lies: the first ones are longer."""
    length, longer = divmod(size, chunks)
    boundary = longer * (length + 1)
    if index < boundary:
        return index // (length + 1)
    return longer + (index - boundary) // length


def _is_numbers(value: object) -> TypeGuard[Sequence[int]]:
    return (
        isinstance(value, Sequence)
        and len(value) > 0
        and all(isinstance(item, (int, float)) for item in value)
    )


def _is_grid(value: object) -> TypeGuard[Sequence[Sequence[float]]]:
    return (
        isinstance(value, Sequence)
        and len(value) > 0
        and all(_is_numbers(row) and len(row) == len(value[0]) for row in value)
    )
