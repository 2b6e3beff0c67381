"""Edits of the kernels that change nothing under Triton's interpreter are caught in machine code.

Its launches have other block sizes there, and its dots no tf32.
"""

from __future__ import annotations

import pytest

from moeproof.faults import FAULTS
from moeproof.faults.kernel_edits import UNEDITED
from moeproof.isolated_judge import IsolatedJudge
from moeproof.verdict import Outcome
from moeproof.worker_messages import Subject

CASES = {
    "kernel_earlier_chunks_not_counted": "T33-H64-I48-E8-K2-bf16/uniform/random/contiguous/1",
    "kernel_tf32_instead_of_ieee": "T67-H48-I33-E6-K2-fp32/half_to_one/random/contiguous/69",
}


def test_these_are_all() -> None:
    emulated = {f.name for f in FAULTS.values() if "gfx942" in f.devices}
    assert {name for name in emulated if "cpu" not in FAULTS[name].devices} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_caught(name: str) -> None:
    with IsolatedJudge(Subject(UNEDITED.reference, "gfx942", 120.0)) as judge:
        right = judge.judge_check(CASES[name], "accuracy")
        judge.turn_to(FAULTS[name].reference)
        wrong = judge.judge_check(CASES[name], "accuracy")
    assert right.outcome is Outcome.PASS, right.message
    # Rows that nobody wrote name tokens far outside the batch.
    assert wrong.outcome is Outcome.FAIL or "MemoryFault" in wrong.message, wrong.message
