"""The process that compiles for one target: ``python -m moeproof.targets.process FD``.

``FD`` is its end of the pipe to its supervisor; the messages are those of
:mod:`moeproof.targets.messages`.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeAlias

from moeproof.architectures import ARCHITECTURES
from moeproof.implementation import Implementation, load_implementation
from moeproof.targets.facts import Versions
from moeproof.targets.messages import AllCallsMade, CallBegins, CompileRequest
from moeproof.worker_messages import CHECK_MARK, Fault, Refused

if TYPE_CHECKING:
    from moeproof.targets.recorder import Recorder

    # Generic for the type checker alone.
    Pipe: TypeAlias = Connection[Any, Any]


def main(arguments: list[str]) -> None:
    """Compile what the supervisor at the other end of the pipe asks for."""
    pipe: Pipe = Connection(int(arguments[0]))
    os.set_inheritable(int(arguments[0]), False)
    # The implementation may close or replace standard error; this one stays.
    error_output = os.dup(2)
    faulthandler.enable(error_output)
    request: CompileRequest = pipe.recv()
    # The interpreter would compile nothing; Triton reads this as it is imported.
    os.environ.pop("TRITON_INTERPRET", None)
    import triton

    from moeproof.targets.recorder import Recorder

    # Before the implementation is imported: it may ask Triton where it is.
    recorder = Recorder(ARCHITECTURES[request.target], compiled=pipe.send)
    try:
        implementation = load_implementation(request.implementation)
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else repr(error)
        pipe.send(Refused(Fault.IMPLEMENTATION, text))
        return
    pipe.send(Versions(implementation.version, triton.__version__))
    _make_calls(pipe, error_output, recorder, implementation, request)
    pipe.send(AllCallsMade())


def _make_calls(
    pipe: Pipe,
    error_output: int,
    recorder: Recorder,
    implementation: Implementation,
    request: CompileRequest,
) -> None:
    """The calls from the first one asked for, each with its time limit."""
    from moeproof.targets.problems import representative_calls

    calls = list(representative_calls(implementation, request.dtypes))
    for number, call in enumerate(calls, start=1):
        if number < request.first_call:
            continue
        os.write(error_output, CHECK_MARK)
        pipe.send(CallBegins(number, len(calls), call.name))
        # The timer is a thread of C code: it ends even a call that hangs with the GIL held, and
        # a process whose supervisor is gone.
        faulthandler.dump_traceback_later(request.timeout_seconds, exit=True, file=error_output)
        failed = recorder.record(call)
        faulthandler.cancel_dump_traceback_later()
        if failed is not None:
            pipe.send(failed)


if __name__ == "__main__":
    main(sys.argv[1:])
