"""Outputs tell how an implementation rounds; the true profile always survives."""

from __future__ import annotations

import numpy as np
import pytest

from moeproof.case import Case
from moeproof.inputs import make_inputs
from moeproof.oracle import R_LIMIT, ProfileInference, RoundingProfile, r_statistic
from moeproof.oracle.experts import ExpertIntervals
from moeproof.oracle.inference import enclosing
from moeproof.rounding_profile import candidate_profiles

from .simulated_experts import SimulatedExperts
from .simulated_products import fused

CANDIDATES = candidate_profiles()


def intervals_of(case: Case) -> ExpertIntervals:
    return ExpertIntervals(make_inputs(case), dtype=case.problem.dtype, independent_signs=True)


def case_of(dtype: str, seed: int, *, tokens: int = 4) -> Case:
    return Case.parse(f"T{tokens}-H64-I48-E4-K2-{dtype}/uniform/random/contiguous/{seed}")


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_outputs_tell_which_points_are_rounded(dtype: str) -> None:
    """The true profile always survives, nearly alone among those that sum the slots in float32."""
    random = np.random.default_rng(4)
    survivors = []
    for seed, profile in enumerate(CANDIDATES[::5]):
        case = case_of(dtype, seed)
        output = SimulatedExperts.declared(profile, fused)(make_inputs(case), random)
        inference = ProfileInference(intervals_of(case), CANDIDATES)
        alive = {
            candidate
            for candidate, survives in zip(CANDIDATES, inference.surviving(output), strict=True)
            if survives
        }
        assert profile in alive
        if not profile.combine_in_output_dtype:
            survivors.append(sum(not each.combine_in_output_dtype for each in alive))
    assert np.mean(survivors) < 1.5


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("wrong", ["", "intermediate truncated", "16-bit sigmoid"])
def test_putting_work_off_changes_nothing(dtype: str, wrong: str) -> None:
    case = case_of(dtype, 1, tokens=9)
    variant = SimulatedExperts(fused, intermediate=True, expert_output=True, fault=wrong)
    output = variant(make_inputs(case), np.random.default_rng(0))
    one_by_one = []
    for candidate in CANDIDATES:
        interval = intervals_of(case).under(candidate)
        inside = bool(interval.accepts(output).all())
        one_by_one.append(inside and r_statistic(output, interval) <= R_LIMIT)
    inference = ProfileInference(intervals_of(case), CANDIDATES)
    assert list(inference.surviving(output)) == one_by_one
    assert any(one_by_one) == (wrong == "")


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("pattern", ["uniform", "masked_slots", "duplicates"])
def test_the_enclosing_profile_allows_all_that_the_other_does(dtype: str, pattern: str) -> None:
    case = Case.parse(f"T9-H24-I20-E4-K3-{dtype}/{pattern}/random/contiguous/2")
    intervals = intervals_of(case)
    for candidate in CANDIDATES:
        loose, tight = intervals.under(enclosing(candidate)), intervals.under(candidate)
        assert enclosing(candidate) in CANDIDATES
        assert (loose.lower <= tight.lower).all()
        assert (tight.upper <= loose.upper).all()


@pytest.mark.parametrize("pattern", ["uniform", "masked_slots"])
def test_a_few_tokens_have_the_same_intervals_alone(pattern: str) -> None:
    case = Case.parse(f"T9-H24-I20-E4-K3-bf16/{pattern}/random/contiguous/2")
    intervals = intervals_of(case)
    tokens = intervals.plainest_tokens(3)
    for candidate in (CANDIDATES[0], CANDIDATES[77], RoundingProfile()):
        few, all_tokens = intervals.of_tokens(tokens).under(candidate), intervals.under(candidate)
        np.testing.assert_allclose(few.bound, all_tokens.bound[tokens], rtol=1e-9)
        np.testing.assert_allclose(few.centre, all_tokens.centre[tokens], rtol=1e-12)


def test_the_nearest_profile_is_named_for_an_output_that_none_allows() -> None:
    case = case_of("bf16", 1, tokens=9)
    inputs = make_inputs(case)
    variant = SimulatedExperts(fused, intermediate=True, expert_output=True)
    output = variant(inputs, np.random.default_rng(0))
    output[5, 7] *= 2
    inference = ProfileInference(intervals_of(case), CANDIDATES)
    assert not any(inference.surviving(output))
    nearest = inference.nearest(output)
    assert (~nearest.interval.accepts(output)).sum() == 1
    assert nearest.profile.intermediate == "yes"
