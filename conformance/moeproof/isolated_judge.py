"""One supervised worker: one verdict for each check, whatever becomes of the process."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from moeproof.devices import DeviceError
from moeproof.implementation import ImplementationError
from moeproof.planned_case import PlannedCase
from moeproof.verdict import Outcome, Verdict
from moeproof.worker_messages import DescribeRun, Fault, JudgeCase, Judged, Refused, Subject
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
    """One worker, replaced whenever it dies. Use as a context manager."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._worker: WorkerProcess | None = None
        self._changing_worker = threading.Lock()
        self._closed = False
        self._failure: ImplementationError | DeviceError | None = None
        self._last_check = "nothing"

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
                raise ImplementationError(
                    f"implementation {self.subject.implementation!r} cannot be loaded: the "
                    f"process {death}\n{death.output}".rstrip()
                ) from death

    def metadata(self, profile: str) -> RunMetadata:
        """What a report says about a run of this profile, collected where the device is."""
        worker = self._running_worker()
        worker.send(DescribeRun(profile))
        answer: RunMetadata = worker.receive(timeout_seconds=_STARTUP_SECONDS)
        return answer

    def judge(self, planned: PlannedCase) -> list[Verdict]:
        """One verdict for each planned check, in order, whatever becomes of the worker."""
        case_id = planned.case.case_id
        try:
            worker = self._running_worker()
        except (ImplementationError, DeviceError) as error:
            message = f"not judged: no worker could be started: {error}"
            return [self._error(case_id, check, message) for check in planned.checks]
        worker.send(JudgeCase(case_id, planned.checks))
        verdicts: list[Verdict] = []
        for check in planned.checks:
            if self._worker is worker:
                verdict = self._await_verdict(worker, case_id, check)
                last_judged = check
            else:
                message = f"not judged: the process died in check {last_judged}"
                verdict = self._error(case_id, check, message)
            verdicts.append(verdict)
        return verdicts

    def close(self) -> None:
        """Kill the worker. A case under way in another thread ends at once, with an ERROR."""
        with self._changing_worker:
            self._closed = True
            if self._worker is not None:
                self._worker.kill()

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
            if self._closed:
                raise ImplementationError("the run was stopped")
            self._worker = worker = WorkerProcess(self.subject)
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
        """The verdict of the check that comes next; if the worker dies, an ERROR that says how."""
        started = time.monotonic()
        begun = False
        try:
            while True:
                answer = worker.receive(
                    timeout_seconds=self.subject.timeout_seconds + _GRACE_SECONDS
                )
                if isinstance(answer, Judged):
                    break
                begun = True
                self._last_check = f"check {check} of {case_id}"
        except WorkerDeathError as death:
            self._drop_worker()
            seconds = time.monotonic() - started
            if seconds >= self.subject.timeout_seconds:
                message = f"no answer within {self.subject.timeout_seconds:g} s{death.hint}"
            elif begun:
                message = f"the process {death}"
            else:
                message = f"before this check began, after {self._last_check}, the process {death}"
            return self._error(case_id, check, message, seconds=seconds, output=death.output)
        if answer.device_lost:
            self._drop_worker()
        return answer.verdict

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

    def __enter__(self) -> IsolatedJudge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
