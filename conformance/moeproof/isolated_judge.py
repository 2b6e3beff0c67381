"""One supervised worker: one verdict for each check, whatever becomes of the process."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from moeproof.devices import DeviceError
from moeproof.implementation import ImplementationError
from moeproof.planned_case import PlannedCase
from moeproof.verdict import Outcome, Verdict
from moeproof.worker_messages import CheckBegins, DescribeRun, Fault, JudgeCheck, Refused, Subject
from moeproof.worker_places import GpuLease
from moeproof.worker_process import WorkerDeathError, WorkerProcess

if TYPE_CHECKING:
    from moeproof.report.metadata import RunMetadata

_STARTUP_SECONDS = 300.0
# The worker ends a check that hangs by itself, with a traceback; this much later it is killed.
_GRACE_SECONDS = 3.0
_REFUSALS: dict[Fault, type[ImplementationError] | type[DeviceError]] = {
    Fault.IMPLEMENTATION: ImplementationError,
    Fault.DEVICE: DeviceError,
}


class IsolatedJudge:
    """One worker, started when first needed and replaced whenever it dies.

    A context manager; leaving it kills the worker.
    """

    def __init__(self, subject: Subject, lease: GpuLease | None = None) -> None:
        """With a lease, each worker sees that GPU alone. The caller lets go of it after closing."""
        self.subject = subject
        self._lease = lease
        self._worker: WorkerProcess | None = None
        self._changing_worker = threading.Lock()
        self._killed = False
        self._failure: ImplementationError | DeviceError | None = None
        self._last_check = "nothing"
        self._fatal: dict[str, tuple[str, str]] = {}

    def start(self) -> None:
        """Start the worker and wait until the implementation is loaded.

        Raises:
            ImplementationError: the implementation cannot be loaded.
            DeviceError: the device is missing.
        """
        try:
            self._start_worker()
        except WorkerDeathError:
            try:
                self._start_worker()
            except WorkerDeathError as death:
                raise self._cannot("be loaded", death) from death

    def turn_to(self, implementation: str) -> None:
        """Judge another implementation from now on, in the same worker if there is one.

        Raises:
            ImplementationError: the implementation cannot be loaded.
            DeviceError: the device is missing.
        """
        self.subject = replace(self.subject, implementation=implementation)
        self._fatal.clear()
        self._failure = None
        if self._worker is not None:
            self._worker.send(self.subject)
            with suppress(WorkerDeathError):
                self._await_ready(self._worker)
                return
        self.start()

    def metadata(self, profile: str) -> RunMetadata:
        """What a report says about a run of this profile, collected where the device is."""
        worker = self._running_worker()
        worker.send(DescribeRun(profile))
        try:
            answer: RunMetadata = worker.receive(timeout_seconds=_STARTUP_SECONDS)
        except WorkerDeathError as death:
            raise self._cannot("be described", death) from death
        return answer

    def judge(self, planned: PlannedCase) -> list[Verdict]:
        """One verdict for each planned check, in order."""
        return [self.judge_check(planned.case.case_id, check) for check in planned.checks]

    def judge_check(self, case_id: str, check: str) -> Verdict:
        """The verdict of one check; ERROR if the worker dies, hangs or cannot be started.

        After a check that cost a worker, the other checks of that case are not judged any more.
        """
        fatal_check, consequence = self._fatal.get(case_id, (check, ""))
        if fatal_check != check:
            return self._error(case_id, check, f"not judged: {consequence}")
        try:
            worker = self._running_worker()
        except (ImplementationError, DeviceError) as error:
            message = f"not judged: no worker could be started: {error}"
            return self._error(case_id, check, message)
        worker.send(JudgeCheck(case_id, check))
        return self._await_verdict(worker, case_id, check)

    def kill(self) -> None:
        """Kill the worker for good, from any thread. A check under way ends with an ERROR."""
        with self._changing_worker:
            self._killed = True
            if self._worker is not None:
                self._worker.kill()

    def close(self) -> None:
        """Kill the worker and let go of it. No check may be under way."""
        self.kill()
        self._drop_worker()

    def _running_worker(self) -> WorkerProcess:
        """The worker, started if there is none. What failed to start once fails for good."""
        if self._failure is not None:
            raise self._failure
        if self._worker is None:
            try:
                self.start()
            except (ImplementationError, DeviceError) as error:
                self._failure = error
                raise
        assert self._worker is not None
        return self._worker

    def _start_worker(self) -> None:
        with self._changing_worker:
            if self._killed:
                raise ImplementationError("the run was stopped")
            self._worker = worker = WorkerProcess(self.subject, self._lease)
        self._await_ready(worker)

    def _await_ready(self, worker: WorkerProcess) -> None:
        """Wait until the worker has loaded the subject; one that has not is dropped."""
        try:
            answer = worker.receive(timeout_seconds=_STARTUP_SECONDS)
        except WorkerDeathError:
            self._drop_worker()
            raise
        if isinstance(answer, Refused):
            self._drop_worker()
            raise _REFUSALS[answer.fault](answer.message)

    def _drop_worker(self) -> None:
        with self._changing_worker:
            if self._worker is not None:
                self._worker.close()
            self._worker = None

    def _await_verdict(self, worker: WorkerProcess, case_id: str, check: str) -> Verdict:
        patience = self.subject.timeout_seconds + _GRACE_SECONDS
        started = time.monotonic()
        begun = False
        try:
            answer = worker.receive(timeout_seconds=patience)
            if isinstance(answer, CheckBegins):
                begun = True
                self._last_check = f"check {check} of {case_id}"
                answer = worker.receive(timeout_seconds=patience)
        except WorkerDeathError as death:
            self._drop_worker()
            self._fatal[case_id] = (check, f"the process died in check {check}")
            seconds = time.monotonic() - started
            if death.timed_out:
                message = f"no answer within {self.subject.timeout_seconds:g} s{death.hint}"
            elif begun:
                message = f"the process {death}"
            else:
                message = f"before this check began, after {self._last_check}, the process {death}"
            return self._error(case_id, check, message, seconds=seconds, output=death.output)
        if answer.device_lost:
            self._drop_worker()
            self._fatal[case_id] = (check, f"check {check} left the device unusable")
        verdict: Verdict = answer.verdict
        return verdict

    def _error(
        self, case_id: str, check: str, message: str, *, seconds: float = 0.0, output: str = ""
    ) -> Verdict:
        return Verdict(
            case_id=case_id,
            check=check,
            outcome=Outcome.ERROR,
            message=message,
            figures={},
            worst=None,
            evidence={"output": output} if output else {},
            seconds=seconds,
            reproducer=self.subject.reproducer(case_id, check),
        )

    def _cannot(self, what: str, death: WorkerDeathError) -> ImplementationError:
        reference = self.subject.implementation
        text = f"implementation {reference!r} cannot {what}: the process {death}\n{death.output}"
        return ImplementationError(text.rstrip())

    def __enter__(self) -> IsolatedJudge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
