"""The child process in which an implementation runs: ``python -m moeproof.worker FD``.

``FD`` is the worker's end of the pipe to its supervisor. Standard output and standard error
belong to the implementation; the protocol never passes through them.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeAlias

from moeproof.case_id import parse_case_id
from moeproof.devices import Device, DeviceError, prepare_environment, resolve_device, synchronize
from moeproof.implementation import Implementation, load_implementation
from moeproof.verdict import Outcome, Verdict
from moeproof.worker_messages import (
    CHECK_MARK,
    CheckBegins,
    DescribeRun,
    Fault,
    JudgeCheck,
    Judged,
    Ready,
    Refused,
    Subject,
)

if TYPE_CHECKING:
    from moeproof.report.metadata import RunMetadata
    from moeproof.trial import RouterTrial, Trial

    # Generic for the type checker alone.
    _Pipe: TypeAlias = Connection[Any, Any]


def serve(pipe: _Pipe) -> None:
    """Answer the supervisor's requests until it hangs up."""
    # The implementation may close or replace standard error; this one stays.
    error_output = os.dup(2)
    faulthandler.enable(error_output)
    subject: Subject = pipe.recv()
    prepare_environment(subject.device, os.environ)
    try:
        worker = _Worker(subject, error_output)
    except DeviceError as error:
        pipe.send(Refused(Fault.DEVICE, str(error)))
        return
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else repr(error)
        pipe.send(Refused(Fault.IMPLEMENTATION, text))
        return
    pipe.send(Ready())
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        if isinstance(request, DescribeRun):
            pipe.send(worker.describe(request))
        else:
            worker.judge_check(request, pipe)


class _Worker:
    """An implementation and a device, ready to judge."""

    def __init__(self, subject: Subject, error_output: int) -> None:
        import torch

        torch.set_num_threads(1)
        self.subject = subject
        self.error_output = error_output
        self.device: Device = resolve_device(subject.device)
        self.trial: Trial | RouterTrial | None = None
        self.implementation: Implementation = load_implementation(subject.implementation)

    def describe(self, request: DescribeRun) -> RunMetadata:
        from moeproof.report.metadata import collect_metadata

        return collect_metadata(
            implementation=self.subject.implementation,
            version=self.implementation.version,
            device=self.device,
            profile=request.profile,
        )

    def judge_check(self, request: JudgeCheck, pipe: _Pipe) -> None:
        """Send a breadcrumb, then the verdict."""
        from moeproof.judge import judge

        os.write(self.error_output, CHECK_MARK)
        pipe.send(CheckBegins(request.case_id, request.check))
        # The timer is a thread of C code: it ends even a check that hangs with the GIL held, and
        # a worker whose supervisor is gone.
        faulthandler.dump_traceback_later(
            self.subject.timeout_seconds, exit=True, file=self.error_output
        )
        judged = self._after_device(judge(self._trial_of(request.case_id), request.check))
        faulthandler.cancel_dump_traceback_later()
        pipe.send(judged)

    def _trial_of(self, case_id: str) -> Trial | RouterTrial:
        from moeproof.judge import make_trial

        if self.trial is None or self.trial.case.case_id != case_id:
            self.trial = make_trial(parse_case_id(case_id), self.implementation, self.device)
        return self.trial

    def _after_device(self, verdict: Verdict) -> Judged:
        """The verdict once all queued work is done. A GPU's error shows there at the latest, and
        from then on every call on the device fails."""
        reproducer = self.subject.reproducer(verdict.case_id, verdict.check)
        verdict = replace(verdict, reproducer=reproducer)
        try:
            synchronize(self.device)
        except Exception as error:
            if verdict.outcome is not Outcome.ERROR:
                message = f"left an error on the device: {type(error).__name__}: {error}"
                verdict = replace(verdict, outcome=Outcome.ERROR, message=message)
            return Judged(verdict, device_lost=True)
        return Judged(verdict, device_lost=False)


def main(arguments: list[str]) -> None:
    """Serve the supervisor at the other end of the pipe."""
    pipe: _Pipe = Connection(int(arguments[0]))
    os.set_inheritable(pipe.fileno(), False)
    serve(pipe)


if __name__ == "__main__":
    main(sys.argv[1:])
