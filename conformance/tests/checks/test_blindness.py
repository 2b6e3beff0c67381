"""Gross errors are refused on every case that means anything, and it shows where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from moeproof.blindness import Sight, blind_spot, examine_experts
from moeproof.case import Case
from moeproof.inputs import ExpertInputs, make_inputs
from moeproof.oracle import Interval, expert_interval

CORRUPTIONS = {
    "all zeros",
    "a row of zeros",
    "a column of zeros",
    "a tile of zeros",
    "an expert dropped",
    "two rows swapped",
}


def judged(case_id: str) -> tuple[ExpertInputs, Interval]:
    case = Case.parse(case_id)
    return make_inputs(case), interval_of(case_id, make_inputs(case))


def interval_of(case_id: str, inputs: ExpertInputs) -> Interval:
    case = Case.parse(case_id)
    return expert_interval(
        inputs,
        dtype=case.problem.dtype,
        independent_signs=case.values.has_independent_signs,
    )


def sights(case_id: str) -> dict[str, Sight]:
    return {sight.corruption: sight for sight in examine_experts(*judged(case_id))}


RANDOM = "T33-H40-I24-E8-K2-{}/uniform/random/contiguous/0"


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_every_corruption_of_random_values_is_refused(dtype: str) -> None:
    found = sights(RANDOM.format(dtype))
    assert set(found) == CORRUPTIONS
    expected = {
        "all zeros": 1,
        "a row of zeros": 33,
        "a column of zeros": 40,
        "a tile of zeros": 3 * 3,
        "an expert dropped": 8,
        "two rows swapped": 33,
    }
    assert {name: sight.refused for name, sight in found.items()} == expected
    assert not any(s.idle or s.unjudged or s.small or s.blind for s in found.values())


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_a_bound_that_is_too_wide_is_a_blind_spot(dtype: str) -> None:
    inputs, interval = judged(RANDOM.format(dtype))
    size = np.abs(interval.centre).max()
    wide = replace(interval, lower=interval.lower - size, upper=interval.upper + size)
    found = list(examine_experts(inputs, wide))
    assert {sight.corruption for sight in found if sight.blind} == CORRUPTIONS
    assert blind_spot(examine_experts(inputs, wide)) == "zeros everywhere"


def test_inputs_that_are_too_small_are_a_blind_spot() -> None:
    """Outputs below the spacing of fp16's subnormal numbers."""
    case_id = RANDOM.format("fp16")
    inputs = make_inputs(Case.parse(case_id))
    tiny = (inputs.hidden_states.astype(np.float64) * 1e-6).astype(np.float16)
    inputs = replace(inputs, hidden_states=tiny)
    assert blind_spot(examine_experts(inputs, interval_of(case_id, inputs))) == "zeros everywhere"


def widened(interval: Interval, rows: object, columns: object) -> Interval:
    """Anything is allowed at some rows and columns."""
    lower, upper = interval.lower.copy(), interval.upper.copy()
    lower[rows, columns], upper[rows, columns] = -np.inf, np.inf  # type: ignore[index]
    return replace(interval, lower=lower, upper=upper)


EVERY = slice(None)


@pytest.mark.parametrize(
    ("rows", "columns", "blind"),
    [
        (7, EVERY, "zeros in row 7"),
        (32, EVERY, "zeros in row 32"),
        (EVERY, 39, "zeros in column 39"),
        (slice(16, 32), slice(32, 40), "zeros in the tile at row 16, column 32"),
    ],
)
def test_a_region_that_is_not_judged_is_named(rows: object, columns: object, blind: str) -> None:
    inputs, interval = judged(RANDOM.format("bf16"))
    assert blind_spot(examine_experts(inputs, widened(interval, rows, columns))) == blind


def test_an_expert_that_would_not_be_missed_is_named() -> None:
    inputs, interval = judged(RANDOM.format("bf16"))
    rows = (inputs.topk_ids == 5).any(axis=1)
    examples = [sight.example for sight in examine_experts(inputs, widened(interval, rows, EVERY))]
    assert "an output without expert 5" in examples


def test_swapped_rows_that_would_pass_are_named() -> None:
    inputs, interval = judged(RANDOM.format("bf16"))
    examples = [
        sight.example for sight in examine_experts(inputs, widened(interval, slice(11, 13), EVERY))
    ]
    assert "rows 11 and 12 swapped" in examples


def test_a_token_whose_experts_give_nothing_is_a_blind_spot() -> None:
    """Active rows of zeros hide every error, whatever the bound."""
    case_id = RANDOM.format("fp32")
    inputs = make_inputs(Case.parse(case_id))
    states = inputs.hidden_states.copy()
    states[3] = 0
    inputs = replace(inputs, hidden_states=states)
    assert blind_spot(examine_experts(inputs, interval_of(case_id, inputs))) == "zeros in row 3"


def counts(case_id: str) -> Iterator[tuple[str, int, int, int, int, int]]:
    for sight in examine_experts(*judged(case_id)):
        yield (
            sight.corruption, sight.refused, sight.idle, sight.unjudged, sight.small, sight.blind
        )  # fmt: skip


def test_what_has_no_part_is_counted_as_idle() -> None:
    masked = "T5-H40-I24-E8-K2-bf16/masked_all/random/contiguous/0"
    assert set(counts(masked)) == {
        ("all zeros", 0, 1, 0, 0, 0),
        ("a row of zeros", 0, 5, 0, 0, 0),
        ("a column of zeros", 0, 40, 0, 0, 0),
        ("a tile of zeros", 0, 3, 0, 0, 0),
        ("an expert dropped", 0, 0, 0, 0, 0),
        ("two rows swapped", 0, 5, 0, 0, 0),
    }
    empty = sights("T0-H40-I24-E8-K2-bf16/uniform/random/contiguous/0")
    assert all(sight.refused == sight.blind == 0 for sight in empty.values())
    alone = sights("T1-H40-I24-E8-K2-bf16/uniform/random/contiguous/0")
    assert alone["two rows swapped"] == Sight("two rows swapped", 0, 0, 0, 0, 0)
    unweighted = sights("T9-H40-I24-E8-K1-bf16/zero_weights/random/contiguous/0")
    assert unweighted["a row of zeros"].idle > 0


def test_a_contribution_that_legally_vanishes_is_counted_as_small() -> None:
    """A weight of 2**-12 beside one of order one is below bf16's resolution."""
    found = sights("T1-H40-I24-E8-K2-bf16/dominant_weight/random/contiguous/0")
    assert (found["an expert dropped"].refused, found["an expert dropped"].small) == (1, 1)


def test_what_may_overflow_is_counted_as_unjudged() -> None:
    inputs, interval = judged(RANDOM.format("bf16"))
    overflow = interval.overflow.copy()
    overflow[4] = True
    rows = next(
        sight
        for sight in examine_experts(inputs, replace(interval, overflow=overflow))
        if sight.corruption == "a row of zeros"
    )
    assert (rows.refused, rows.unjudged, rows.blind) == (32, 1, 0)
