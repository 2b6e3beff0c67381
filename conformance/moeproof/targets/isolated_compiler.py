"""One target's compilation: every call is made or reported, whatever becomes of the process."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from moeproof.implementation import ImplementationError
from moeproof.targets.facts import FailedCall, KernelFacts, Versions
from moeproof.targets.messages import AllCallsMade, CallBegins, CompileRequest
from moeproof.worker_messages import Refused
from moeproof.worker_process import WorkerDeathError, WorkerProcess

_STARTUP_SECONDS = 300.0
# The process ends a call that hangs by itself, with a traceback; this much later it is killed.
_GRACE_SECONDS = 3.0


@dataclass(frozen=True)
class CompiledTarget:
    """What was compiled for one target.

    Attributes:
        target: the architecture's name.
        implementation_version: as the implementation says it. triton: version that compiled.
        kernels: each configuration.
        failed_calls: calls that raised, took too long or ended the process.
    """

    target: str
    implementation_version: str
    triton: str
    kernels: tuple[KernelFacts, ...]
    failed_calls: tuple[FailedCall, ...]


class IsolatedCompiler:
    """Makes the calls for one target in a process that is replaced whenever it dies.

    A call that raises costs nothing; one that crashes or takes too long costs the process, and the
    next process goes on with the call after it.
    """

    def __init__(self, request: CompileRequest) -> None:
        self._request = request
        self._worker: WorkerProcess | None = None
        self._changing_worker = threading.Lock()
        self._killed = False
        self._under_way = ("", 0.0)
        self._last_call: CallBegins | None = None
        self._versions = Versions()
        self._kernels: dict[str, KernelFacts] = {}
        self._failed: list[FailedCall] = []

    def compile(self) -> CompiledTarget:
        """What was compiled, once all calls are made.

        Raises:
            ImplementationError: the implementation cannot be loaded, or :meth:`kill` was called.
        """
        first_call: int | None = self._request.first_call
        while first_call is not None:
            first_call = self._compile_from(first_call)
        self._under_way = ("", 0.0)
        return CompiledTarget(
            target=self._request.target,
            implementation_version=self._versions.implementation,
            triton=self._versions.triton,
            kernels=tuple(self._kernels.values()),
            failed_calls=tuple(self._failed),
        )

    def progress(self) -> str:
        """``sm_90: call 3 of 568, T1-H2880-I2880-E32-K4-bf16, for 12 s``; empty if none is made."""
        doing, since = self._under_way
        if not doing:
            return ""
        failed = f", {len(self._failed)} failed" if self._failed else ""
        seconds = time.monotonic() - since
        return f"{self._request.target}: {doing}, for {seconds:.0f} s{failed}"

    def kill(self) -> None:
        """Kill the process for good, from any thread."""
        with self._changing_worker:
            self._killed = True
            if self._worker is not None:
                self._worker.kill()

    def _compile_from(self, first_call: int) -> int | None:
        """Make the calls from this one on; the call to go on with if the process died."""
        worker = self._start_worker(first_call)
        began: CallBegins | None = None
        deadline = time.monotonic() + _STARTUP_SECONDS
        try:
            while True:
                message = worker.receive(timeout_seconds=max(0.0, deadline - time.monotonic()))
                if isinstance(message, AllCallsMade):
                    return None
                if isinstance(message, Refused):
                    self._note_refusal(first_call, message.message)
                    return None
                if isinstance(message, CallBegins):
                    self._last_call = began = message
                    now = time.monotonic()
                    doing = f"call {began.number} of {began.total}, {began.problem}"
                    self._under_way = (doing, now)
                    deadline = now + self._request.timeout_seconds + _GRACE_SECONDS
                else:
                    self._keep(message)
        except WorkerDeathError as death:
            if began is None:
                reference = self._request.implementation
                text = f"implementation {reference!r} cannot be loaded: the process {death}"
                self._note_refusal(first_call, f"{text}\n{death.output}".rstrip())
                return None
            self._failed.append(self._death_of(began, death))
            return began.number + 1 if began.number < began.total else None
        finally:
            self._drop_worker()

    def _start_worker(self, first_call: int) -> WorkerProcess:
        self._under_way = ("loading the implementation", time.monotonic())
        request = replace(self._request, first_call=first_call)
        with self._changing_worker:
            if self._killed:
                raise ImplementationError("the compilation was stopped")
            self._worker = WorkerProcess(request, module="moeproof.targets.process")
            return self._worker

    def _drop_worker(self) -> None:
        with self._changing_worker:
            if self._worker is not None:
                self._worker.close()
            self._worker = None

    def _keep(self, message: Versions | KernelFacts | FailedCall) -> None:
        """Note a result. Each kernel is kept once, and of calls that raise the same, the first."""
        if isinstance(message, Versions):
            self._versions = message
        elif isinstance(message, KernelFacts):
            self._kernels.setdefault(message.configuration.digest, message)
        elif all(message.message != failed.message for failed in self._failed):
            self._failed.append(message)

    def _note_refusal(self, first_call: int, message: str) -> None:
        """Note the calls that will not be made; an error if none was made before."""
        if self._last_call is None:
            raise ImplementationError(message)
        text = f"calls {first_call} to {self._last_call.total} were not made: {message}"
        self._failed.append(FailedCall(self._request.target, "", text))

    def _death_of(self, call: CallBegins, death: WorkerDeathError) -> FailedCall:
        which = f"call {call.number} of {call.total}"
        if death.timed_out:
            limit = f"{self._request.timeout_seconds:g} s (--timeout)"
            message = f"{which} gave no answer within {limit}{death.hint}"
        else:
            message = f"in {which}, the process {death}"
        return FailedCall(self._request.target, call.problem, message)
