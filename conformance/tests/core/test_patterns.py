"""Routing patterns are what their names say, on every problem they fit."""

from __future__ import annotations

import numpy as np
import pytest

from moeproof.patterns import NEEDS_SIZES, PATTERNS
from moeproof.problem import Problem
from moeproof.random_source import RandomSource
from moeproof.routing_pattern import Routing, by_group_sizes, find_pattern

PROBLEMS = [
    Problem(tokens, 8, 8, experts, top_k, "bf16")
    for tokens in (0, 1, 2, 33)
    for experts, top_k in ((1, 1), (4, 4), (7, 3), (64, 6), (300, 2))
]
NAMES = [name for name in PATTERNS if name not in NEEDS_SIZES]


def route(name: str, problem: Problem) -> Routing:
    pattern, argument = find_pattern(name)
    return pattern.route(problem, RandomSource("test", name), argument)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_ranges_and_flags_hold(name: str) -> None:
    pattern = PATTERNS[name]
    fitting = [problem for problem in PROBLEMS if pattern.misfit(problem, "") is None]
    assert fitting
    masked = duplicates = False
    for problem in fitting:
        routing = route(name, problem)
        ids = routing.topk_ids
        assert ids.shape == (problem.num_tokens, problem.top_k)
        assert ids.dtype == np.int32
        assert routing.topk_weights.dtype == np.float32
        assert np.isfinite(routing.topk_weights).all()
        inside = (ids >= 0) & (ids < problem.num_experts)
        masked |= not inside.all()
        assert inside.all() or pattern.masked
        for row in ids:
            chosen = row[(row >= 0) & (row < problem.num_experts)]
            duplicates |= len(set(chosen)) < len(chosen)
        assert not duplicates or pattern.duplicates
    assert masked == pattern.masked
    assert duplicates == pattern.duplicates


def test_there_are_at_least_twenty_patterns() -> None:
    assert len(NAMES) >= 20


PROBLEM = Problem(40, 8, 8, 8, 2, "bf16")


def group_sizes(name: str, problem: Problem = PROBLEM) -> np.ndarray:
    ids = route(name, problem).topk_ids
    inside = ids[(ids >= 0) & (ids < problem.num_experts)]
    return np.bincount(inside, minlength=problem.num_experts)


def test_empty_experts_are_empty() -> None:
    assert group_sizes("empty_first")[0] == 0
    assert group_sizes("empty_last")[-1] == 0
    assert group_sizes("empty_middle")[4] == 0
    assert group_sizes("every_second_empty")[1::2].sum() == 0
    assert group_sizes("only_last").tolist() == [0] * 6 + [40, 40]
    assert group_sizes("masked_all").sum() == 0


def test_skew_is_skewed() -> None:
    assert group_sizes("one_hot_expert").max() == 40
    assert group_sizes("half_to_one")[0] >= 20
    sizes = np.sort(group_sizes("zipf", Problem(400, 8, 8, 64, 2, "bf16")))[::-1]
    assert sizes[0] > 5 * np.median(sizes)
    assert (group_sizes("round_robin") == 10).all()
    assert group_sizes("lonely_token")[0] == 1


def test_tile_edges_has_its_group_sizes() -> None:
    sizes = group_sizes("tile_edges", Problem(70, 8, 8, 8, 2, "bf16"))
    assert sizes.tolist() == [15, 16, 17, 1, 31, 32, 28, 0]


def test_group_sizes_are_as_asked() -> None:
    pattern, argument = find_pattern("group_sizes:5+0+3+2")
    problem = Problem(5, 8, 8, 4, 2, "bf16")
    ids = pattern.route(problem, RandomSource("x"), argument).topk_ids
    assert np.bincount(ids.ravel(), minlength=4).tolist() == [5, 0, 3, 2]
    assert all(len(set(row)) == 2 for row in ids)


def test_masked_group_sizes_leave_slots_masked() -> None:
    pattern, argument = find_pattern("masked_group_sizes:5+0+3+0")
    problem = Problem(5, 8, 8, 4, 2, "bf16")
    assert pattern.masked
    ids = pattern.route(problem, RandomSource("x"), argument).topk_ids
    assert np.bincount(ids.ravel() + 1, minlength=5).tolist() == [2, 5, 0, 3, 0]
    # The slots are in no particular order.
    assert {tuple(row) for row in ids} == {(0, 2), (2, 0), (0, -1), (-1, 0)}
    assert "less than T*K = 10" in str(pattern.misfit(problem, "5+0+3+2"))


def test_group_sizes_beyond_the_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="at most T"):
        by_group_sizes(PROBLEM, RandomSource("x"), np.array([81]))
