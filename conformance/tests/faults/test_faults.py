"""Every fault is caught, and the right steps that it was made from are not."""

from __future__ import annotations

import pytest

from moeproof.case_id import parse_case_id
from moeproof.devices import Device
from moeproof.faults import CONTROL, FAULTS
from moeproof.judge import judge, make_trial
from moeproof.verdict import Outcome

FIRST = "T33-H64-I48-E8-K2-fp16/uniform/random/contiguous/0"


def outcome(name: str, case_id: str, check: str) -> Outcome:
    fault = FAULTS.get(name, CONTROL)
    trial = make_trial(parse_case_id(case_id), fault.implementation, Device("cpu"))
    return judge(trial, check).outcome


@pytest.mark.parametrize("name", ["only_first_group", "weights_twice", "gelu"])
def test_caught(name: str) -> None:
    assert outcome("none", FIRST, "accuracy") is Outcome.PASS
    assert outcome(name, FIRST, "accuracy") is Outcome.FAIL
