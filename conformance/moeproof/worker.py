"""The child process in which an implementation runs: ``python -m moeproof.worker FD [FD ...]``.

The first ``FD`` is the worker's end of the pipe to its supervisor; the others are the lease of its
GPU, which it holds by keeping them open. Standard output and standard error
belong to the implementation; the protocol never passes through them.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeAlias

from moeproof.devices import DeviceError, prepare_environment, resolve_device
from moeproof.worker_messages import (
    CHECK_MARK,
    CheckBegins,
    DescribeRun,
    Fault,
    Ready,
    Refused,
    Subject,
)

if TYPE_CHECKING:
    from moeproof.loaded_subject import LoadedSubject

    # Generic for the type checker alone.
    Pipe: TypeAlias = Connection[Any, Any]


def serve(pipe: Pipe, error_output: int) -> None:
    """Load the subject, then answer the supervisor's requests until it hangs up.

    Args:
        pipe: to the supervisor.
        error_output: file descriptor that tracebacks go to.
    """
    subject: Subject = pipe.recv()
    prepare_environment(subject.device, os.environ)
    loaded = _load(pipe, subject)
    while loaded is not None:
        try:
            request = pipe.recv()
        except EOFError:
            return
        if isinstance(request, Subject):
            loaded = _load(pipe, request)
            continue
        if isinstance(request, DescribeRun):
            pipe.send(loaded.describe(request))
            continue
        os.write(error_output, CHECK_MARK)
        pipe.send(CheckBegins(request.case_id, request.check))
        # The timer is a thread of C code: it ends even a check that hangs with the GIL held, and
        # a worker whose supervisor is gone.
        faulthandler.dump_traceback_later(subject.timeout_seconds, exit=True, file=error_output)
        judged = loaded.judge(request)
        faulthandler.cancel_dump_traceback_later()
        pipe.send(judged)


def _load(pipe: Pipe, subject: Subject) -> LoadedSubject | None:
    """Load what is judged and tell the supervisor; None if it cannot be loaded."""
    try:
        device = resolve_device(subject.device)
        # Only now: it imports torch, and the implementation imports Triton.
        from moeproof.loaded_subject import LoadedSubject

        loaded = LoadedSubject(subject, device)
    except DeviceError as error:
        pipe.send(Refused(Fault.DEVICE, str(error)))
        return None
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else repr(error)
        pipe.send(Refused(Fault.IMPLEMENTATION, text))
        return None
    pipe.send(Ready())
    return loaded


def main(arguments: list[str]) -> None:
    """Serve the supervisor at the other end of the pipe."""
    pipe: Pipe = Connection(int(arguments[0]))
    for inherited in arguments:
        os.set_inheritable(int(inherited), False)
    # The implementation may close or replace standard error; this one stays.
    error_output = os.dup(2)
    faulthandler.enable(error_output)
    try:
        serve(pipe, error_output)
    except BaseException:
        # What gets here is no ordinary exception, such as SystemExit. An orderly end could hang.
        os.write(error_output, traceback.format_exc().encode(errors="backslashreplace"))
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
