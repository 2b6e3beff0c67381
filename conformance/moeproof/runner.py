"""Planned cases in, verdicts out, judged by several workers at a time.

A crash or a hang costs one case. Every door of the suite (command line, pytest, fuzzer) comes
through here or through one :class:`~moeproof.isolated_judge.IsolatedJudge`, so a case has the
same verdict through each.
"""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from moeproof.isolated_judge import IsolatedJudge
from moeproof.planned_case import PlannedCase
from moeproof.verdict import Verdict
from moeproof.worker_messages import Subject
from moeproof.worker_places import WorkerPlaces, Workers, cores_of_a_worker

if TYPE_CHECKING:
    from moeproof.report.metadata import RunMetadata

__all__ = ["IsolatedJudge", "JudgePool", "Subject", "run"]


def run(
    planned: Sequence[PlannedCase],
    *,
    implementation: str,
    device: str,
    workers: Workers,
    timeout_seconds: float,
) -> Iterator[Verdict]:
    """One verdict for each check of each planned case, in the order in which cases are done.

    Raises:
        ImplementationError: the implementation cannot be loaded; nothing has been judged.
        DeviceError: the device is unknown, missing or occupied; nothing has been judged.
    """
    subject = Subject(implementation, device, timeout_seconds)
    with JudgePool(subject, workers=workers) as pool:
        yield from pool.judge(planned)


class JudgePool:
    """Several workers with the same subject. Entering starts them; leaving kills them.

    Raises, on entering:
        ImplementationError: the implementation cannot be loaded.
        DeviceError: the device is unknown, missing or occupied.
    """

    def __init__(self, subject: Subject, *, workers: Workers) -> None:
        self._subject = subject
        self._workers = workers
        self._judges: list[IsolatedJudge] = []
        self.warnings: tuple[str, ...] = ()
        """What is to be told about the device, once entered."""

    def metadata(self, profile: str) -> RunMetadata:
        """What a report says about a run of this profile."""
        return self._judges[0].metadata(profile)

    def judge(self, planned: Sequence[PlannedCase]) -> Iterator[Verdict]:
        """One verdict for each check of each planned case, in the order in which cases are done."""
        expected = Counter((case.case.case_id, check) for case in planned for check in case.checks)
        received: Counter[tuple[str, str]] = Counter()
        free: queue.SimpleQueue[IsolatedJudge] = queue.SimpleQueue()
        for judge in self._judges:
            free.put(judge)

        def judge_case(case: PlannedCase) -> list[Verdict]:
            judge = free.get()
            try:
                return judge.judge(case)
            finally:
                free.put(judge)

        with self._threads() as threads:
            for done in as_completed([threads.submit(judge_case, case) for case in planned]):
                for verdict in done.result():
                    received[verdict.case_id, verdict.check] += 1
                    yield verdict
        if received != expected:
            raise RuntimeError(
                f"verdicts do not match the plan: missing {list(expected - received)}, "
                f"unplanned {list(received - expected)}"
            )

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """A thread for each judge. An error kills the workers, so that no thread waits for one."""
        with ThreadPoolExecutor(len(self._judges)) as threads:
            try:
                yield threads
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for judge in self._judges:
                    judge.kill()
                raise

    def __enter__(self) -> JudgePool:
        places = WorkerPlaces.on(self._subject.device, self._workers)
        self.warnings = places.warnings
        subject = replace(self._subject, cores=cores_of_a_worker(places.workers))
        with ExitStack() as stack:
            for _ in range(places.workers):
                lease = stack.enter_context(places.place())
                self._judges.append(stack.enter_context(IsolatedJudge(subject, lease)))
            with self._threads() as threads:
                for started in as_completed([threads.submit(j.start) for j in self._judges]):
                    started.result()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
