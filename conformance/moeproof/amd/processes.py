"""Divides the workgroups of a launch among processes, where it pays and cannot change the result.

There is a share for each process. This one executes the first share. Once that proves long, the
others are forked off, each with its own copy of all memory. In the end memory is what it would be
had the shares run one after another: that is so unless workgroups of two shares met in global
memory, and then there is an error.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import signal
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any

import numpy as np

from moeproof.amd.access_record import AccessRecord, WorkgroupRaceError, merge
from moeproof.amd.control_flow import ExitKind
from moeproof.amd.decoding import UnknownInstruction
from moeproof.amd.translate import Program
from moeproof.amd.workgroups import Executed, WorkgroupRunner, Workgroups

WORTH_A_PROCESS = 20_000
"""Instructions, counting waves, that take about as long as to fork a process and to merge."""
_MOST_BYTES = 1 << 28  # of memory that is allowed: there is a note for each byte
_ATOMICS = ("global_atomic", "flat_atomic", "buffer_atomic")
_PR_SET_PDEATHSIG = 1  # Linux: prctl(2)
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class _Fault:
    """An exception that ended a share, as it is sent from process to process."""

    kind: type[Exception]
    arguments: tuple[Any, ...]
    attributes: dict[str, Any]
    trace: str

    def exception(self) -> Exception:
        """As it was raised, caused by its trace in the other process."""
        error = self.kind.__new__(self.kind, *self.arguments)
        vars(error).update(self.attributes)
        error.__cause__ = RuntimeError(f"in a forked process:\n{self.trace}")
        return error


def run_spread(
    runner: WorkgroupRunner, workgroups: Workgroups, *, processes: int
) -> list[Executed]:
    """Execute the workgroups in up to so many processes; what each part of them did.

    Raises:
        UnknownInstruction, MemoryFault, LdsFault: what the first of them in order that fails does.
        WorkgroupRaceError: workgroups of two processes met in global memory.
        RuntimeError: a forked process ended without an answer.
    """
    # A gang is not divided: smaller ones take nearly as long.
    shares = min(processes, runner.gangs(len(workgroups)))
    size = sum(allocation.size for allocation in runner.memory.allocations)
    if shares < 2 or size > _MOST_BYTES or runner.wave_order_seed is not None:
        return [runner.run(workgroups)]
    return _Division(runner, np.array_split(workgroups, shares)).run()


def is_divisible(program: Program, entry: int) -> bool:
    """Whether no atomic joins the kernel's workgroups in global memory.

    Translates every block that branches lead to, so that forked processes find it done. A computed
    jump, or an instruction that is not emulated, leaves the answer open: then it is no.
    """
    waiting, seen = [entry], set()
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        try:
            block = program.block(address)
        except UnknownInstruction:
            return False
        leaving = block.exit
        if leaving.kind is ExitKind.JUMP:
            return False
        if any(instruction.name.startswith(_ATOMICS) for instruction in block.origins):
            return False
        if leaving.kind is ExitKind.BRANCH:
            waiting.append(leaving.target)
        if leaving.kind is not ExitKind.END and (
            leaving.kind is not ExitKind.BRANCH or leaving.condition is not None
        ):
            waiting.append(leaving.following)
    return True


class _Division:
    """Workgroups in shares, and the processes forked for all but the first of them, if any."""

    def __init__(self, runner: WorkgroupRunner, shares: Sequence[Workgroups]) -> None:
        self._runner = runner
        self._shares = shares
        # The first share's is kept from its start: what it has done by the fork, the others see.
        self._records = [AccessRecord(runner.memory.allocations) for _ in shares]
        self._children: list[tuple[ForkProcess, Connection]] = []
        self._executed = 0

    def run(self) -> list[Executed]:
        """What each share did."""
        memory = self._runner.memory
        try:
            memory.record = self._records[0]
            try:
                first = self._runner.run(self._shares[0], self._progress)
            finally:
                memory.record = None
            if not self._children:
                return [first, self._runner.run(np.concatenate(self._shares[1:]))]
            return self._merged([first, *(self._answer(*child) for child in self._children)])
        finally:
            self._end_children()

    def _progress(self, instructions: int) -> None:
        """Fork once it pays; if that may not or cannot be, forget about it."""
        before = self._executed
        self._executed += instructions
        if before < WORTH_A_PROCESS <= self._executed and not self._fork():
            self._runner.memory.record = None

    def _fork(self) -> bool:
        """Start the other shares; whether that was possible."""
        if not is_divisible(self._runner.program, self._runner.entry):
            return False
        for share, record in zip(self._shares[1:], self._records[1:], strict=True):
            receiver, sender = _FORK.Pipe(duplex=False)
            arguments = (self._runner, share, record, sender)
            process = _FORK.Process(target=_run_share, args=arguments)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # see _run_share
                    process.start()
            except OSError:  # as where this process has more memory than there is for a copy
                receiver.close()
                self._end_children()
                return False
            finally:
                sender.close()
            self._children.append((process, receiver))
        return True

    def _end_children(self) -> None:
        for process, receiver in self._children:
            process.kill()
            process.join()
            receiver.close()
        self._children.clear()

    def _answer(self, process: ForkProcess, receiver: Connection) -> Executed | _Fault:
        try:
            answer: Executed | _Fault = receiver.recv()
        except EOFError as error:
            process.join()
            raise RuntimeError(
                f"a forked process of the emulator ended with code {process.exitcode}"
            ) from error
        return answer

    def _merged(self, outcomes: Sequence[Executed | _Fault]) -> list[Executed]:
        """Add the other shares' stores to memory, up to the first fault, which is raised."""
        done: list[Executed] = []
        fault = None
        for outcome in outcomes:
            if isinstance(outcome, _Fault):
                fault = outcome.exception()
                break
            done.append(outcome)
        reached = len(done) + (fault is not None)
        names = [f"workgroups {_name(share[0])} to {_name(share[-1])}" for share in self._shares]
        races = merge(self._runner.memory, self._records[:reached], names=names)
        if races:
            text = f"kernel {self._runner.program.kernel.name!r}: {'; '.join(races)}"
            raise WorkgroupRaceError(text) from fault
        if fault is not None:
            raise fault
        return done


def _run_share(
    runner: WorkgroupRunner, share: Workgroups, record: AccessRecord, sender: Connection
) -> None:
    """In a forked process: send what the share did, or the exception that ended it.

    Such a process has none of the threads of torch and of numpy's BLAS, and may find their locks
    held. It runs the emulator's numpy code alone, and no garbage collector looks at what it has
    inherited, which would copy it. It ends with its parent, however that one dies.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    gc.freeze()
    outcome: Executed | _Fault
    runner.memory.record = record
    try:
        outcome = runner.run(share)
    except Exception as error:
        outcome = _Fault(type(error), error.args, vars(error), traceback.format_exc())
    runner.memory.record = None
    record.keep_values(runner.memory)
    sender.send(outcome)


def _name(workgroup: Workgroups) -> str:
    return str(tuple(int(index) for index in workgroup))
