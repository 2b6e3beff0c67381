"""Every edited kernel is caught in the case that is known to, and the unedited one passes there.

In a worker, under Triton's interpreter; one worker for many edits, as long as it lives.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from moeproof.faults import FAULTS
from moeproof.faults.kernel_edits import UNEDITED
from moeproof.faults.known_catches import KnownCatch, read_known_catches
from moeproof.isolated_judge import IsolatedJudge
from moeproof.verdict import Outcome, Verdict
from moeproof.worker_messages import Subject

KERNELS = [f.name for f in FAULTS.values() if f.kind == "kernel" and "cpu" in f.devices]


class Kernels:
    """Verdicts on edited kernels and, once for each case and check, on the unedited one."""

    def __init__(self, judge: IsolatedJudge) -> None:
        self._judge = judge
        self._unedited: dict[KnownCatch, Verdict] = {}

    def unedited(self, known: KnownCatch) -> Verdict:
        if known not in self._unedited:
            self._unedited[known] = self.edited(UNEDITED.name, known)
        return self._unedited[known]

    def edited(self, name: str, known: KnownCatch) -> Verdict:
        self._judge.turn_to(f"moeproof.faults:{name}")
        return self._judge.judge_check(known.case_id, known.check)


@pytest.fixture(scope="module")
def kernels() -> Iterator[Kernels]:
    with IsolatedJudge(Subject(UNEDITED.reference, "cpu", 120.0)) as judge:
        yield Kernels(judge)


@pytest.mark.parametrize("name", KERNELS)
def test_caught(name: str, kernels: Kernels) -> None:
    known = read_known_catches()[name]
    right = kernels.unedited(known)
    assert right.outcome is Outcome.PASS, right.message
    wrong = kernels.edited(name, known)
    assert wrong.outcome in (Outcome.FAIL, Outcome.ERROR)
