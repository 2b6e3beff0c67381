"""Faults through the runner: in worker processes, until a check catches them.

A fault may crash its worker or hang: that is a catch, and costs one case, as in any run; but only
where the right steps do neither. A device that many share may have no memory or no time left.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from moeproof.faults.fault import CONTROL, Fault
from moeproof.faults.kernel_edits import UNEDITED
from moeproof.faults.matrix import find_catches, result_of
from moeproof.isolated_judge import IsolatedJudge
from moeproof.planned_case import PlannedCase
from moeproof.report.fault_matrix import FaultResult
from moeproof.verdict import Outcome, Verdict
from moeproof.worker_messages import Subject
from moeproof.worker_places import cores_of_a_worker


@dataclass(frozen=True)
class FaultRun:
    """How faults are judged.

    Attributes:
        device: where they run.
        workers: how many at a time.
        timeout_seconds: the longest that one check may take.
        every_check: go on until each check has caught the fault or has seen all cases.
    """

    device: str
    workers: int
    timeout_seconds: float
    every_check: bool = False

    def judge(
        self,
        faults: Iterable[Fault],
        planned: Sequence[PlannedCase],
        *,
        known: Mapping[str, PlannedCase] | None = None,
    ) -> Iterator[FaultResult]:
        """The result of each fault, in the order in which they are done.

        Args:
            faults: what is judged.
            planned: the cases and their checks, in order.
            known: fault's name -> a case and checks that come before ``planned``.
        """
        before = known or {}

        def judge_one(fault: Fault) -> FaultResult:
            if self.device not in fault.devices:
                return result_of(fault, (), 0, 0.0, not_judged=f"shows on {_names(fault)} alone")
            with self._judge_for(fault, shared) as judge:
                # A kernel under an interpreter takes a second a case: the order matters.
                order = planned if self.every_check or fault.kind != "kernel" else spread(planned)
                first = [before[fault.name]] if fault.name in before else []
                return find_catches(
                    fault,
                    [*first, *order],
                    lambda case, check: self._confirmed(
                        judge.judge_check(case.case_id, check), fault
                    ),
                    stop_at_first=not self.every_check,
                )

        with self._judges() as shared, ThreadPoolExecutor(self.workers) as threads:
            for done in as_completed([threads.submit(judge_one, fault) for fault in faults]):
                yield done.result()

    @contextmanager
    def _judges(self) -> Iterator[queue.SimpleQueue[IsolatedJudge]]:
        """One a worker, for faults that leave their process as it was."""
        shared: queue.SimpleQueue[IsolatedJudge] = queue.SimpleQueue()
        with ExitStack() as stack:
            for _ in range(self.workers):
                shared.put(stack.enter_context(IsolatedJudge(self._subject(CONTROL))))
            yield shared

    @contextmanager
    def _judge_for(
        self, fault: Fault, shared: queue.SimpleQueue[IsolatedJudge]
    ) -> Iterator[IsolatedJudge]:
        """A judge of this fault. A kernel may write anywhere: its process is used for it alone."""
        if fault.kind == "kernel":
            with IsolatedJudge(self._subject(fault)) as judge:
                judge.start()
                yield judge
            return
        judge = shared.get()
        try:
            judge.turn_to(fault.reference)
            yield judge
        finally:
            shared.put(judge)

    def _confirmed(self, verdict: Verdict, fault: Fault) -> Verdict:
        """The verdict, unless it is an ERROR that the right steps have on the same case, too."""
        if verdict.outcome is not Outcome.ERROR:
            return verdict
        with IsolatedJudge(self._subject(UNEDITED if fault.kind == "kernel" else CONTROL)) as judge:
            right = judge.judge_check(verdict.case_id, verdict.check)
        if right.outcome is Outcome.PASS:
            return verdict
        message = f"the right steps do not pass here either: {right.message}"
        return replace(verdict, outcome=Outcome.UNSUPPORTED, message=message)

    def _subject(self, fault: Fault) -> Subject:
        cores = cores_of_a_worker(self.workers)
        return Subject(fault.reference, self.device, self.timeout_seconds, cores)


def spread(planned: Sequence[PlannedCase]) -> list[PlannedCase]:
    """The cases in an order that visits all parts of a profile early: bit-reversed places."""
    bits = max(1, (len(planned) - 1).bit_length())
    places = (int(f"{place:0{bits}b}"[::-1], 2) for place in range(1 << bits))
    return [planned[place] for place in places if place < len(planned)]


def _names(fault: Fault) -> str:
    return " and ".join(sorted(fault.devices))
