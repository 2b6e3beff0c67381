"""The supervisor's view of one worker: start it, talk to it, tell how it died."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

from moeproof.worker_messages import CHECK_MARK
from moeproof.worker_places import GpuLease

_TAIL_BYTES = 16_384
_POLL_SECONDS = 0.25
_LAST_BREATH_SECONDS = 2.0
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# As faulthandler writes a thread's stack.
_INNERMOST_FRAME = re.compile(
    r"(?P<thread>Current thread|Thread) .*most recent call first\):\s*"
    r'File "(?P<file>.+?)", line (?P<line>\d+) in (?P<name>.+)'
)

_TIMEOUT_LINE = re.compile(r"^Timeout \(\d+:\d\d:\d\d(\.\d+)?\)!$", re.MULTILINE)


class WorkerDeathError(Exception):
    """The process is gone.

    Attributes:
        how: "was killed by SIGSEGV", "exited with code 3", ...
        hint: where in the implementation it was, or what it last wrote; may be empty.
        output: the end of what it wrote during the check under way.
        timed_out: it ended, or was killed, because a check took too long.
    """

    def __init__(self, how: str, output: str, *, timed_out: bool = False) -> None:
        self.how = how
        self.hint = _hint(output)
        self.output = output
        self.timed_out = timed_out or _TIMEOUT_LINE.search(output) is not None
        super().__init__(f"{how}{self.hint}")


class WorkerProcess:
    """One process that serves a supervisor, in a process group of its own."""

    def __init__(
        self, request: object, lease: GpuLease | None = None, *, module: str = "moeproof.worker"
    ) -> None:
        """Start it, on a GPU that the caller has leased and that it goes on holding itself.

        Args:
            request: the first message, which tells it what to load.
            lease: of the GPU; None where it needs none.
            module: what it runs, with the end of its pipe as the first argument.
        """
        self._tail = b""
        self._killed = False
        self._pipe, theirs = Pipe()
        output, their_output = os.pipe()
        leased = lease.files if lease is not None else ()
        where = lease.environment if lease is not None else {}
        with theirs:
            inherited = (theirs.fileno(), *leased)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module, *map(str, inherited)],
                    stdin=subprocess.DEVNULL,
                    stdout=their_output,
                    stderr=their_output,
                    pass_fds=inherited,
                    env={**_ONE_THREAD, **os.environ, **where, "PYTHONUNBUFFERED": "1"},
                    start_new_session=True,
                )
            finally:
                os.close(their_output)
        self._output: int | None = output
        self.send(request)

    def send(self, message: object) -> None:
        """Hand over a message. A worker that is gone is noticed by :meth:`receive`."""
        with suppress(OSError):
            self._pipe.send(message)

    def receive(self, *, timeout_seconds: float) -> Any:
        """The worker's next message.

        Raises:
            WorkerDeathError: the process ended, or it was killed as nothing came in time.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            remaining = deadline - time.monotonic()
            sources: list[Any] = [self._pipe]
            if self._output is not None:
                sources.append(self._output)
            ready = wait(sources, timeout=max(0.0, min(remaining, _POLL_SECONDS)))
            if self._output in ready:
                self._read_output()
            if self._pipe in ready:
                try:
                    return self._pipe.recv()
                except Exception as error:
                    raise self._dead(error) from error
            if not ready and self._process.poll() is not None:
                # A child of its own holds the pipe open.
                raise self._dead()
            if remaining <= 0:
                self.kill()
                how = f"gave no answer within {timeout_seconds:g} s"
                raise WorkerDeathError(how, self._last_output(), timed_out=True)

    def kill(self) -> None:
        """End the process and every process that it started."""
        if not self._killed:
            # Once: later the id may be another's.
            self._killed = True
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill the process and let go of its pipes."""
        self.kill()
        self._pipe.close()
        if self._output is not None:
            os.close(self._output)
            self._output = None

    def _dead(self, reading: Exception | None = None) -> WorkerDeathError:
        """The exception for a process that died, or that hung up and is killed now."""
        try:
            code = self._process.wait(timeout=_LAST_BREATH_SECONDS)
            how = _describe_exit(code)
        except subprocess.TimeoutExpired:
            how = f"it broke the connection to the suite ({reading!r})"
        self.kill()
        return WorkerDeathError(how, self._last_output())

    def _last_output(self) -> str:
        """What the process wrote during the check under way, or its end if that is long."""
        while self._output is not None and wait([self._output], timeout=0):
            self._read_output()
        return self._tail.rpartition(CHECK_MARK)[2].decode(errors="replace")

    def _read_output(self) -> None:
        assert self._output is not None
        chunk = os.read(self._output, 65_536)
        if not chunk:
            os.close(self._output)
            self._output = None
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def _hint(output: str) -> str:
    """Where the process was, by faulthandler's traceback, else the last line that it wrote."""
    frames = list(_INNERMOST_FRAME.finditer(output))
    if frames:
        # A fatal error names the thread it happened in; otherwise the main thread comes last.
        current = [frame for frame in frames if frame["thread"] == "Current thread"]
        frame = (current or frames)[-1]
        return f" at {frame['file']}:{frame['line']} in {frame['name']}"
    lines = output.strip().splitlines()
    return f"; it last wrote: {lines[-1]}" if lines else ""
