"""Runs a gang's waves: together while they stand at one instruction, in groups where they part."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moeproof.amd.control_flow import Exit, ExitKind
from moeproof.amd.state import Array, Waves
from moeproof.amd.translate import Block, Program

# A group may wait for another one in a loop; it gives way after this many blocks.
_PATIENCE = 20_000


@dataclass(eq=False)
class Group:
    """Waves that stand at the same address."""

    waves: Waves
    address: int


class Scheduler:
    """Executes one gang to its end.

    Without a seed, all waves start as one group. Where a branch parts them, the group at the lowest
    address goes first, so that groups meet again behind the branch and become one. With a seed, the
    waves run one at a time, in an order drawn anew after each barrier: what a kernel without races
    computes does not depend on it.

    A barrier holds until all waves of the gang have come to one or ended, which is later than
    hardware needs, and the same to a kernel whose workgroups do not wait for each other there.
    """

    def __init__(self, program: Program, waves: Waves, *, wave_order_seed: int | None) -> None:
        self.program = program
        self.executed: Counter[int] = Counter()
        self._gang = waves.gang
        self._workgroups = list(range(int(waves.gang.workgroup.max()) + 1))
        self._order = None if wave_order_seed is None else random.Random(wave_order_seed)
        self._running = [Group(waves, program.kernel.entry)]
        self._waiting: list[Group] = []
        self._turns = 0
        if self._order is not None:
            self._running = [
                Group(waves.of_waves(np.array([wave])), program.kernel.entry)
                for wave in range(waves.waves)
            ]
            self._order.shuffle(self._running)

    def run(self, start: int, progress: Callable[[int], None] | None = None) -> Counter[int]:
        """Executes from the address `start`; how often each block was executed, counting waves.

        `progress` is told after each block how many instructions it was, counting waves.
        """
        for group in self._running:
            group.address = start
        with np.errstate(all="ignore"):
            while self._running:
                group = self._next_group()
                block = self.program.block(group.address)
                self._execute(block, group.waves)
                self.executed[block.start] += group.waves.waves
                if progress is not None:
                    progress(block.length * group.waves.waves)
                self._leave(group, block.exit)
                if not self._running and self._waiting:
                    self._pass_barrier()
        self._gang.lds.barrier(self._workgroups)
        return self.executed

    def _next_group(self) -> Group:
        if len(self._running) == 1 or self._order is not None:
            return self._running[0]
        self._turns += 1
        if self._turns % _PATIENCE == 0:
            return self._running[(self._turns // _PATIENCE) % len(self._running)]
        return min(self._running, key=lambda group: group.address)

    def _execute(self, block: Block, waves: Waves) -> None:
        index = -1
        try:
            for index, step in enumerate(block.steps):  # noqa: B007
                step(waves)
        except Exception as fault:
            kernel, instruction = self.program.kernel.name, block.origins[index]
            fault.args = (f"kernel {kernel!r}, {instruction}: {fault}",)
            raise

    def _leave(self, group: Group, leaving: Exit) -> None:
        waves = group.waves
        if leaving.kind is ExitKind.END:
            self._running.remove(group)
        elif leaving.kind is ExitKind.BARRIER:
            group.address = leaving.following
            self._running.remove(group)
            self._waiting.append(group)
        elif leaving.kind is ExitKind.CONTINUE:
            self._move(group, leaving.following)
        elif leaving.kind is ExitKind.JUMP:
            assert leaving.jump is not None
            self._scatter(group, leaving.jump(waves))
        elif leaving.condition is None:
            self._move(group, leaving.target)
        else:
            taken = leaving.condition(waves)
            if taken.all():
                self._move(group, leaving.target)
            elif not taken.any():
                self._move(group, leaving.following)
            else:
                self._scatter(group, np.where(taken, leaving.target, leaving.following))

    def _scatter(self, group: Group, addresses: Array) -> None:
        """Sends each wave to its own address; those that part become groups of their own."""
        first, *others = (int(address) for address in np.unique(addresses))
        parted = [Group(group.waves.of_waves(addresses == a), a) for a in others]
        if parted:
            group.waves = group.waves.of_waves(addresses == first)
        self._running.extend(parted)
        for moved in (group, *parted):
            self._move(moved, first if moved is group else moved.address)

    def _move(self, group: Group, address: int) -> None:
        group.address = address
        if len(self._running) > 1:
            self._merge(group)

    def _merge(self, group: Group) -> None:
        if self._order is not None or group not in self._running:
            return
        for other in self._running:
            if other is not group and other.address == group.address:
                group.waves = Waves.joined([group.waves, other.waves])
                self._running.remove(other)
                return

    def _pass_barrier(self) -> None:
        self._gang.lds.barrier(self._workgroups)
        self._running, self._waiting = self._waiting, []
        if self._order is not None:
            self._order.shuffle(self._running)
            return
        for group in list(self._running):
            if group in self._running:
                self._merge(group)
