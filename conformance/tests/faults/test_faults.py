"""Every fault is caught in the case that is known to, and the right steps pass there.

``ci/proof.py faults`` looks for the cases; it judges every fault by the whole quick profile.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moeproof.case_id import parse_case_id
from moeproof.devices import Device
from moeproof.faults import CONTROL, FAULTS
from moeproof.faults.known_catches import known_catches, read_known_catches
from moeproof.faults.matrix import fault_matrix, judge_fault
from moeproof.implementation import Implementation, ImplementationError, load_implementation
from moeproof.judge import judge, make_trial
from moeproof.planned_case import PlannedCase
from moeproof.profiles import plan
from moeproof.verdict import Outcome, Verdict

CPU = Device("cpu")
SUBJECTS = Path(__file__).parents[1] / "subjects"
IN_TORCH = [name for name, fault in FAULTS.items() if fault.kind != "kernel"]
KNOWN = read_known_catches()


def judged(implementation: Implementation, name: str) -> Verdict:
    known = KNOWN[name]
    trial = make_trial(parse_case_id(known.case_id), implementation, CPU)
    return judge(trial, known.check)


def test_a_case_is_known_for_every_fault() -> None:
    assert set(KNOWN) == {n for n, fault in FAULTS.items() if "cpu" in fault.devices}


@pytest.mark.parametrize("name", IN_TORCH)
def test_caught(name: str) -> None:
    right = judged(CONTROL.implementation, name)
    assert right.outcome is Outcome.PASS, right.message
    wrong = judged(FAULTS[name].implementation, name)
    assert wrong.outcome in (Outcome.FAIL, Outcome.ERROR)


def test_what_is_known_is_part_of_the_quick_profile() -> None:
    assert list(known_catches(plan("quick", "cpu"))) == list(KNOWN)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
def test_described(fault: object) -> None:
    assert fault.summary  # type: ignore[attr-defined]
    for issue in fault.stands_for:  # type: ignore[attr-defined]
        repository, number = issue.split("#")
        assert repository.count("/") == 1
        assert number.isdecimal()


def test_named_on_the_command_line() -> None:
    fault = FAULTS["gelu"]
    assert load_implementation(fault.implementation.name) is fault.implementation
    with pytest.raises(ImplementationError, match="no_such_fault"):
        load_implementation("moeproof.faults:no_such_fault")


PLANNED = [
    PlannedCase(parse_case_id(case_id), checks)
    for case_id, checks in (
        ("route-T5-E8-K2-softmax-renormalized-fp32/normal/0", ("routing",)),
        ("T9-H24-I20-E4-K2-fp32/uniform/random/contiguous/0", ("accuracy", "determinism")),
        ("T9-H24-I20-E4-K2-fp32/masked_slots/random/contiguous/0", ("accuracy", "determinism")),
    )
]


def test_the_matrix_names_the_first_case_of_each_check() -> None:
    result = judge_fault(FAULTS["masked_wraps_to_last_expert"], PLANNED, CPU)
    assert [(catch.check, catch.cases) for catch in result.catches] == [("accuracy", 2)]
    assert result.catches[0].case_id == PLANNED[2].case.case_id
    assert "outside" in result.catches[0].message
    assert result.cases == 2


def test_the_matrix_can_stop_at_the_first_catch() -> None:
    (result,) = fault_matrix([FAULTS["gelu"]], PLANNED, CPU, stop_at_first=True)
    assert result.cases == 1


def test_the_matrix_judges_routers_by_their_own_cases() -> None:
    results = list(
        fault_matrix([FAULTS["scaling_twice"], FAULTS["never_normalised"]], PLANNED, CPU)
    )
    assert [(result.caught, result.cases) for result in results] == [(False, 1), (True, 1)]


@pytest.mark.parametrize("entry", ["fused_experts", "route"])
def test_right_steps_are_not_caught(entry: str) -> None:
    result = judge_fault(replace(CONTROL, entry=entry), PLANNED, CPU)  # type: ignore[arg-type]
    assert not result.caught


def test_what_no_rounding_profile_explains_in_all_is_caught() -> None:
    subject = load_implementation(f"{SUBJECTS / 'changing_rounding.py'}:fused_experts")
    planned = [
        PlannedCase(
            parse_case_id(f"T{tokens}-H64-I48-E8-K2-bf16/uniform/random/contiguous/1"), checks
        )
        for tokens, checks in ((3, ("accuracy", "rounding")), (17, ("accuracy", "rounding")))
    ]
    changing = replace(CONTROL, name="changing", load=lambda: subject)
    (catch,) = judge_fault(changing, planned, CPU).catches
    assert (catch.check, catch.cases) == ("rounding", 2)
    assert "no rounding profile fits all 2 cases" in catch.message
    assert not judge_fault(CONTROL, planned, CPU).caught
