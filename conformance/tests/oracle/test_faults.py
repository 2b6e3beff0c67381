"""Wrong implementations are refused, as often as their errors stand out of the allowed ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from moeproof.case import Case, ValueFamily
from moeproof.inputs import ExpertInputs, make_inputs
from moeproof.oracle import R_LIMIT, UNDECLARED, RoundingProfile, expert_interval, r_statistic
from moeproof.problem import Problem

from .simulated_experts import SimulatedExperts
from .simulated_products import fused, matrix_unit, through_tf32

CASES = 12
KNOWN = RoundingProfile("no", "no", "yes", "no")


def cases(dtype: str) -> Iterator[ExpertInputs]:
    for seed in range(CASES):
        problem = Problem(8, 96, 80, 8, 2, dtype)
        yield make_inputs(Case(problem, "uniform", ValueFamily.RANDOM, seed=seed))


def share_refused(fault: str, dtype: str, profile: RoundingProfile) -> float:
    random = np.random.default_rng(0)
    product = through_tf32(matrix_unit(4, 23)) if fault == "tf32" else fused
    wrong = SimulatedExperts(product, intermediate=dtype != "fp32", fault=fault)
    refused = 0
    for inputs in cases(dtype):
        interval = expert_interval(inputs, dtype=dtype, independent_signs=True, profile=profile)
        output = wrong(inputs, random)
        inside = interval.accepts(output).all()
        refused += not inside or r_statistic(output, interval) > R_LIMIT
    return refused / CASES


GROSS = (
    "zeros",
    "tail missing 1",
    "tail missing 16",
    "gate and up swapped",
    "weight twice",
    "weight ignored",
    "one expert dropped",
    "rows swapped",
    "GELU",
)


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("fault", GROSS)
def test_gross_faults_are_refused_without_a_profile(fault: str, dtype: str) -> None:
    assert share_refused(fault, dtype, UNDECLARED) == 1


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize(
    "fault", ["16-bit sums 16", "16-bit sums 64", "16-bit sigmoid", "intermediate truncated"]
)
def test_lost_accuracy_is_refused_under_the_profile(fault: str, dtype: str) -> None:
    assert share_refused(fault, dtype, KNOWN) == 1


@pytest.mark.parametrize("fault", ["tf32"])
def test_lost_accuracy_is_refused_in_float32(fault: str) -> None:
    assert share_refused(fault, "fp32", UNDECLARED) == 1


def test_rare_losses_of_accuracy_hide_behind_undeclared_points() -> None:
    """What a declaration is for; the suite must not claim to see this without one."""
    assert share_refused("intermediate truncated", "bf16", UNDECLARED) < 0.5


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_right_outputs_of_the_same_cases_are_accepted(dtype: str) -> None:
    """The counterpart without which the tests above would prove nothing."""
    assert share_refused("", dtype, UNDECLARED) == 0
    assert share_refused("", dtype, KNOWN) == 0


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_a_single_wrong_element_is_refused(dtype: str) -> None:
    """One element takes its right neighbour's value."""
    random = np.random.default_rng(1)
    refused = 0
    for inputs in cases(dtype):
        output = SimulatedExperts(fused, intermediate=dtype != "fp32")(inputs, random)
        row, column = random.integers(output.shape[0]), random.integers(output.shape[1] - 1)
        output[row, column] = output[row, column + 1]
        interval = expert_interval(inputs, dtype=dtype, independent_signs=True)
        wrong = ~interval.accepts(output)
        refused += wrong.sum() == 1 and wrong[row, column]
    assert refused >= CASES - 2
