"""Faults in worker processes: one process for many, another when one is left unusable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moeproof.case_id import parse_case_id
from moeproof.fault_runner import FaultRun
from moeproof.faults import CONTROL, FAULTS
from moeproof.implementation import ImplementationError
from moeproof.isolated_judge import IsolatedJudge
from moeproof.planned_case import PlannedCase
from moeproof.verdict import Outcome
from moeproof.worker_messages import Subject

SUBJECTS = Path(__file__).parents[1] / "subjects"
CASE = "T9-H24-I20-E4-K2-fp32/uniform/random/contiguous/0"
MASKED = "T9-H24-I20-E4-K2-fp32/masked_slots/random/contiguous/0"
PLANNED = [
    PlannedCase(parse_case_id(CASE), ("accuracy", "determinism")),
    PlannedCase(parse_case_id(MASKED), ("accuracy",)),
]
NO_TOKENS = [
    PlannedCase(parse_case_id("T0-H24-I20-E4-K2-fp32/uniform/random/contiguous/0"), ("accuracy",))
]
RUN = FaultRun(device="cpu", workers=1, timeout_seconds=60.0)


def test_each_fault_is_judged_until_it_is_caught() -> None:
    faults = [FAULTS["gelu"], FAULTS["masked_taken_as_first"], CONTROL]
    results = {result.name: result for result in RUN.judge(faults, PLANNED)}
    assert [(name, result.cases, result.caught) for name, result in results.items()] == [
        ("gelu", 1, True),
        ("masked_taken_as_first", 2, True),
        ("none", 2, False),
    ]


def test_a_known_case_comes_first() -> None:
    name = "masked_taken_as_first"
    (result,) = RUN.judge([FAULTS[name]], PLANNED, known={name: PLANNED[1]})
    assert (result.cases, result.catches[0].case_id) == (1, MASKED)


def test_a_fault_that_cannot_show_here_counts_neither_way() -> None:
    fault = replace(FAULTS["gelu"], devices=frozenset({"cuda"}))
    (result,) = RUN.judge([fault], PLANNED)
    assert (result.not_judged, result.cases) == ("shows on cuda alone", 0)


def test_an_edited_kernel_is_judged() -> None:
    """Under Triton's interpreter, in a process of its own."""
    (result,) = RUN.judge([FAULTS["kernel_last_slot_not_added"]], PLANNED[:1])
    assert result.catches[0].check == "accuracy"


@pytest.mark.parametrize(
    ("seconds", "caught"),
    [pytest.param(60.0, True, id="time-enough"), pytest.param(1e-3, False, id="no-time")],
)
def test_what_stops_the_right_steps_too_catches_nothing(seconds: float, caught: bool) -> None:
    run = FaultRun(device="cpu", workers=1, timeout_seconds=seconds)
    (result,) = run.judge([FAULTS["empty_batch_crashes"]], NO_TOKENS)
    assert result.caught == caught


@pytest.fixture
def judge() -> IsolatedJudge:
    return IsolatedJudge(Subject("moeproof.faults:gelu", "cpu", 60.0))


def test_a_worker_turns_to_another_implementation(judge: IsolatedJudge) -> None:
    with judge:
        assert judge.judge_check(CASE, "accuracy").outcome is Outcome.FAIL
        judge.turn_to("moeproof.faults:none")
        verdict = judge.judge_check(CASE, "accuracy")
    assert verdict.outcome is Outcome.PASS
    assert "--implementation moeproof.faults:none" in verdict.reproducer


def test_what_cannot_be_loaded_is_named_and_can_be_turned_from(judge: IsolatedJudge) -> None:
    with judge:
        judge.start()
        with pytest.raises(ImplementationError, match="no_such_fault"):
            judge.turn_to("moeproof.faults:no_such_fault")
        judge.turn_to("moeproof.faults:none")
        assert judge.judge_check(CASE, "accuracy").outcome is Outcome.PASS


def test_a_worker_that_died_is_replaced_by_one_of_the_next(judge: IsolatedJudge) -> None:
    with judge:
        judge.turn_to(f"{SUBJECTS / 'misbehaving.py'}:fused_experts")
        outcomes = {
            judge.judge_check(
                f"T{tokens}-H16-I16-E4-K2-bf16/uniform/random/contiguous/0", "memory"
            ).outcome
            for tokens in (15, 16)  # with which it leaves
        }
        assert Outcome.ERROR in outcomes
        judge.turn_to("moeproof.faults:none")
        assert judge.judge_check(CASE, "accuracy").outcome is Outcome.PASS
