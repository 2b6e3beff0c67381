"""Planted faults are found and made small; what is right is left in peace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moeproof.case_id import parse_case_id
from moeproof.fuzz.hunt import CaseJudged, Event, Hunt, HuntPlan
from moeproof.fuzz.profile import FUZZ_PROFILES
from moeproof.fuzz.reading import planned_checks
from moeproof.fuzz.tally import Failure, Tally
from moeproof.planned_case import PlannedCase
from moeproof.runner import run
from moeproof.verdict import Outcome
from moeproof.worker_messages import Subject

SUBJECTS = Path(__file__).parents[1] / "subjects"
FUZZED = f"{SUBJECTS / 'fuzzed.py'}"
# How small a case gets is not to depend on how busy the machine is.
PR = replace(FUZZ_PROFILES["pr"], shrink_seconds=200.0)


def plan(
    reference: str, *, seconds: float = 60.0, timeout: float = 60.0, **more: object
) -> HuntPlan:
    subject = Subject(reference, "cpu", timeout)
    return replace(HuntPlan(subject, PR, seconds, seed=1), **more)  # type: ignore[arg-type]


def hunt(plan: HuntPlan) -> tuple[list[Failure], list[str], Tally]:
    """The failures, the ids of the cases drawn, the tally."""
    events: list[Event] = []
    hunt = Hunt(plan, events.append)
    hunt.run()
    failures = [event for event in events if isinstance(event, Failure)]
    return failures, [e.case_id for e in events if isinstance(e, CaseJudged)], hunt.tally


@pytest.mark.parametrize(
    ("fault", "smallest", "checks"),
    [
        ("gelu", "T1-H4-I4-E1-K1-bf16/", {"accuracy"}),
        ("expert_offset_skips_empty", "T1-H4-I4-E2-K1-bf16/", {"accuracy"}),
        ("hidden_strides_ignored", "T2-H4-I4-E1-K1-bf16/", {"accuracy"}),
        ("routing_weights_written", "T1-H4-I4-E1-K1-bf16/", {"memory"}),
        ("bias_ignored", "route-T", {"routing", "memory"}),
    ],
)
def test_a_fault_is_found_and_made_small(fault: str, smallest: str, checks: set[str]) -> None:
    reference = f"moeproof.faults:{fault}"
    (failure,), _, _ = hunt(plan(reference))
    case = parse_case_id(failure.verdict.case_id)
    assert case.case_id.startswith(smallest)
    assert case.problem.num_tokens <= 16
    assert failure.verdict.check in checks
    # Through the other door it has the same verdict.
    planned = [PlannedCase(case, planned_checks(case, "cpu"))]
    verdicts = run(planned, implementation=reference, device="cpu", workers=1, timeout_seconds=60)
    outcomes = {verdict.check: verdict.outcome for verdict in verdicts}
    assert outcomes[failure.verdict.check] is failure.verdict.outcome


def test_a_crash_costs_one_case_and_is_made_small() -> None:
    short = replace(PR, shrink_seconds=20.0)
    (failure,), _, tally = hunt(plan(f"{FUZZED}:aborts_on_an_idle_expert", profile=short))
    assert failure.verdict.outcome is Outcome.ERROR
    assert "was killed by SIGABRT" in failure.verdict.message
    first = parse_case_id(failure.found_as).problem
    last = parse_case_id(failure.verdict.case_id).problem
    assert last.num_tokens * last.num_experts < first.num_tokens * first.num_experts
    assert tally.shrinking > 0


def test_a_hang_is_bounded_in_time() -> None:
    short = replace(PR, shrink_seconds=10.0)
    (failure,), _, tally = hunt(plan(f"{FUZZED}:hangs_past_16_rows", timeout=15.0, profile=short))
    assert "no answer within 15 s" in failure.verdict.message
    assert tally.shrinking > 0
    assert parse_case_id(failure.verdict.case_id).problem.num_tokens > 16


def test_shrinking_keeps_to_one_kind_of_error() -> None:
    """Where it began with one exception, a smaller case that raises another is none of its own."""
    (failure,), _, _ = hunt(plan(f"{FUZZED}:raises_on_odd_widths"))
    message = failure.verdict.message
    problem = parse_case_id(failure.verdict.case_id).problem
    if message.startswith("RuntimeError"):
        assert (problem.hidden_size, problem.intermediate_size % 2) == (5, 0)
    else:
        assert message.startswith("ValueError")
        assert problem.intermediate_size == 5


def test_what_fails_only_after_other_calls_is_reported_with_them() -> None:
    (failure,), _, _ = hunt(plan(f"{FUZZED}:spoiled_by_a_larger_call"))
    assert failure.only_after
    assert failure.verdict.case_id.startswith("T1-")
    subject = plan(f"{FUZZED}:spoiled_by_a_larger_call").subject
    assert failure.reproducer(subject).endswith(failure.verdict.case_id)
    planned = [
        PlannedCase(parse_case_id(case_id), ("accuracy",))
        for case_id in (*failure.only_after, failure.verdict.case_id)
        if not case_id.startswith("route-")
    ]
    verdicts = list(
        run(
            planned,
            implementation=subject.implementation,
            device="cpu",
            workers=1,
            timeout_seconds=60,
        )
    )
    assert verdicts[-1].outcome is Outcome.FAIL


def test_the_same_seed_draws_the_same_cases() -> None:
    subject = "moeproof.faults:none"
    _, first, _ = hunt(plan(subject, seconds=6.0))
    _, second, _ = hunt(plan(subject, seconds=6.0))
    _, other, _ = hunt(plan(subject, seconds=6.0, seed=2))
    shared = min(len(first), len(second))
    assert shared > 10
    assert first[:shared] == second[:shared]
    assert set(first) - set(other)


def test_what_failed_before_is_looked_at_first() -> None:
    reference = "moeproof.faults:full_tile_loses_a_row"
    right, wrong = (
        f"T{tokens}-H8-I8-E1-K1-bf16/uniform/random/contiguous/0" for tokens in (31, 32)
    )
    (failure,), drawn, tally = hunt(plan(reference, kept=(right, wrong)))
    assert drawn == [right, wrong]
    assert failure.verdict.case_id == failure.found_as == wrong
    assert tally.shrinking == 0


@pytest.mark.parametrize("reference", ["torch_eager", "moeproof.variants:rounds_nothing"])
def test_what_is_right_is_left_in_peace(reference: str) -> None:
    failures, _, tally = hunt(plan(reference, seconds=10.0))
    assert failures == []
    assert tally.judged > 20
    assert tally.vacuous <= tally.judged // 10
    assert set(tally.closest) == {"bf16", "fp16", "fp32"}


@pytest.mark.parametrize(
    ("case_id", "counted"),
    [
        ("T1-H1-I2-E1-K1-fp16/uniform/huge/contiguous/8", "vacuous"),
        ("T3-H4-I4-E2-K1-bf16/uniform/random/contiguous/0", "judged"),
        ("T3-H4-I4-E2-K1-bf16/uniform/random/row_padded/0", "unsupported"),
    ],
)
def test_only_a_case_that_can_tell_counts_as_judged(case_id: str, counted: str) -> None:
    """The output of the first is so small that zeros would pass."""
    hunt = Hunt(plan(f"{SUBJECTS / 'right.py'}:fused_experts"), lambda event: None)
    hunt.judge(parse_case_id(case_id))
    hunt.close()
    counts = {name: getattr(hunt.tally, name) for name in ("judged", "vacuous", "unsupported")}
    assert counts == {"judged": 0, "vacuous": 0, "unsupported": 0} | {counted: 1}
