"""Gross errors of ``fused_experts``: parts of the output zeroed, experts dropped, rows swapped.

One must be refused if it changes some element by ``SUBSTANTIAL`` times what the token's outputs
would be at random signs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moeproof.blindness.sight import Sight
from moeproof.inputs import ExpertInputs
from moeproof.oracle import Contributions, Interval, expert_contributions
from moeproof.oracle.rounding import round_to_nearest

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SUBSTANTIAL = 0.25
"""Part of the outputs' size at random signs below which a change may hide behind legal roundings.

Outputs that cancel by chance are as small as that, and say as little.
"""

_TILE = 16  # rows and columns: the smallest tile of a matrix unit


def examine_experts(inputs: ExpertInputs, interval: Interval) -> Iterator[Sight]:
    """How the interval (T, H) of a case takes every kind of corruption of a right output."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        parts = expert_contributions(inputs)
        right = _RightOutput.of(inputs, parts, interval)
        dropped = _experts_dropped(parts, right)
    yield from _zeroed(right)
    yield dropped
    yield _rows_swapped(right)


@dataclass(frozen=True)
class _RightOutput:
    """A right output and what is needed to judge changes of it.

    Attributes:
        interval: what right outputs lie in.
        value: (T, H) a right output.
        active: (T, 1) the token has a slot that names an expert, with a weight other than zero.
        judged: (T, H) elements that are judged.
        substantial: (T, 1) the least change that must be seen.
    """

    interval: Interval
    value: Float64Array
    active: BoolArray
    judged: BoolArray
    substantial: Float64Array

    @classmethod
    def of(cls, inputs: ExpertInputs, parts: Contributions, interval: Interval) -> _RightOutput:
        ids = inputs.topk_ids
        in_range = (ids >= 0) & (ids < len(inputs.gate_up_proj))
        active = (in_range & (inputs.topk_weights != 0)).any(axis=1, keepdims=True)
        judged = ~interval.overflow
        squares = np.zeros(judged.shape)
        np.add.at(squares, parts.token, parts.norm**2)
        squares = np.where(judged, squares, 0.0).sum(axis=1, keepdims=True)
        size = np.sqrt(squares / np.maximum(judged.sum(axis=1, keepdims=True), 1))
        value = round_to_nearest(interval.centre, interval.fmt)
        return cls(interval, value, active, judged, SUBSTANTIAL * size)

    @property
    def size(self) -> Float64Array:
        """(T, H): what a zero changes, even where a right output is rounded to zero as well."""
        return np.abs(self.interval.centre)

    def refuses(self, rows: NDArray[np.int64], values: Float64Array) -> BoolArray:
        """(N, H): where ``values`` (N, H) would be refused as the output of the tokens ``rows``."""
        inside = (self.interval.lower[rows] <= values) & (values <= self.interval.upper[rows])
        return ~inside & self.judged[rows]


def _zeroed(right: _RightOutput) -> Iterator[Sight]:
    """Zeros everywhere, in one row, in one column, in one tile."""
    tokens, hidden = right.value.shape
    elements = {
        "active": np.broadcast_to(right.active, right.value.shape),
        "judged": right.judged & right.active,
        # An active row of zeros counts as well: its values hide every error.
        "substantial": right.judged & right.active & (right.size >= right.substantial),
        "refused": right.refuses(np.arange(tokens), np.zeros_like(right.value)),
    }
    regions: tuple[tuple[str, int, int, Callable[[int, int], str]], ...] = (
        ("all zeros", max(tokens, 1), hidden, lambda row, column: "zeros everywhere"),
        ("a row of zeros", 1, hidden, lambda row, column: f"zeros in row {row}"),
        ("a column of zeros", max(tokens, 1), 1, lambda row, column: f"zeros in column {column}"),
        (
            "a tile of zeros",
            _TILE,
            _TILE,
            lambda row, column: f"zeros in the tile at row {row}, column {column}",
        ),
    )
    for corruption, height, width, describe in regions:
        across = len(range(0, hidden, width))

        def describe_instance(
            index: int,
            describe: Callable[[int, int], str] = describe,
            height: int = height,
            width: int = width,
            across: int = across,
        ) -> str:
            return describe(index // across * height, index % across * width)

        by_region = {name: _any(array, height, width) for name, array in elements.items()}
        yield Sight.of(corruption, **by_region, describe=describe_instance)


def _any(elements: BoolArray, height: int, width: int) -> BoolArray:
    """Whether any element is True, for each block of so many rows and columns."""
    rows, columns = (
        np.arange(0, size, step) for size, step in zip(elements.shape, (height, width), strict=True)
    )
    if not rows.size:
        return np.zeros((0, columns.size), dtype=bool)
    by_row = np.logical_or.reduceat(elements, rows, axis=0)
    return np.asarray(np.logical_or.reduceat(by_row, columns, axis=1))


def _experts_dropped(parts: Contributions, right: _RightOutput) -> Sight:
    """Each expert that some slot names, left out for all of its tokens."""
    token = parts.token
    without = round_to_nearest(right.interval.centre[token] - parts.value, right.interval.fmt)
    judged = right.judged[token]
    refused = right.refuses(token, without)
    substantial = judged & (np.abs(parts.value) >= right.substantial[token])
    weighs = parts.weighs
    experts, expert = np.unique(parts.expert, return_inverse=True)

    def of_expert(pairs: ArrayLike) -> BoolArray:
        return np.asarray(np.bincount(expert, weights=pairs, minlength=len(experts)) > 0)

    return Sight.of(
        "an expert dropped",
        active=of_expert(weighs),
        judged=of_expert(weighs & judged.any(axis=1)),
        substantial=of_expert(weighs & substantial.any(axis=1)),
        refused=of_expert(refused.any(axis=1)),
        describe=lambda index: f"an output without expert {experts[index]}",
    )


def _rows_swapped(right: _RightOutput) -> Sight:
    """Each row with the next one, and the last with the first."""
    tokens = len(right.value)
    first = np.arange(tokens if tokens > 2 else max(tokens - 1, 0))
    second = (first + 1) % max(tokens, 1)
    both = right.judged[first] & right.judged[second]
    change = np.abs(right.interval.centre[first] - right.interval.centre[second])
    least = np.minimum(right.substantial[first], right.substantial[second])
    refused = right.refuses(first, right.value[second]) | right.refuses(second, right.value[first])
    return Sight.of(
        "two rows swapped",
        active=(right.active[first] | right.active[second])[:, 0],
        judged=both.any(axis=1),
        substantial=(both & (change > 0) & (change >= least)).any(axis=1),
        refused=(both & refused).any(axis=1),
        describe=lambda index: f"rows {first[index]} and {second[index]} swapped",
    )
