"""Executes some workgroups of a launch, a gang of waves at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.execution import Scheduler
from moeproof.amd.lds import Lds
from moeproof.amd.lds_record import LdsRace
from moeproof.amd.memory import AddressSpace, Allocation
from moeproof.amd.scratch import allocate_scratch, private_segment_buffer, wave_offsets
from moeproof.amd.state import FIRST_VECTOR, Gang, Waves
from moeproof.amd.translate import Program

Workgroups = NDArray[np.uint32]
"""Indices of workgroups ``(n, 3)``: x, y, z."""

# Waves that run together: enough to hide the cost of a numpy call, few enough for the caches.
_WAVES_OF_A_GANG = 96
_PRELOADED_ENTRY = 256  # LLVM AMDGPU usage, "Preloaded Kernel Arguments"
# The trap registers that gfx12 gives a wave: its index, and those of its workgroup.
_TTMP7, _TTMP8, _TTMP9 = 115, 116, 117


@dataclass
class Executed:
    """What some workgroups did.

    blocks: how often each block was executed, by its address, counting waves. seconds: of processor
    time, without seconds_translating. lds_races, unwritten_lds_reads: see LaunchFigures.
    """

    blocks: Counter[int] = field(default_factory=Counter)
    seconds_translating: float = 0.0
    seconds: float = 0.0
    lds_races: list[LdsRace] = field(default_factory=list)
    unwritten_lds_reads: int = 0


@dataclass(frozen=True)
class WorkgroupRunner:
    """One launch, as far as all its workgroups share it.

    segment: the kernel arguments' contents, which are in memory too. Others: see ``launch``.
    """

    program: Program
    num_warps: int
    lds_bytes: int
    memory: AddressSpace
    image: Allocation
    kernarg: Allocation
    segment: bytes
    wave_order_seed: int | None

    @property
    def entry(self) -> int:
        """The address of the first instruction."""
        kernel = self.program.kernel
        return kernel.entry + (_PRELOADED_ENTRY if kernel.preload & 0x7F else 0)

    def gangs(self, workgroups: int) -> int:
        """Into how many gangs so many workgroups are divided."""
        return max(round(workgroups * self.num_warps / _WAVES_OF_A_GANG), 1)

    def run(
        self, workgroups: Workgroups, progress: Callable[[int], None] | None = None
    ) -> Executed:
        """Execute them to their end, in gangs of about the same size.

        `progress` is told again and again how many instructions it was, counting waves.

        Raises UnknownInstruction, MemoryFault, LdsFault.
        """
        done = Executed()
        started, translated = time.process_time(), self.program.seconds
        for gang in np.array_split(workgroups, self.gangs(len(workgroups))):
            self._run_gang(gang, done, progress)
        done.seconds_translating = self.program.seconds - translated
        done.seconds = time.process_time() - started - done.seconds_translating
        return done

    def _run_gang(
        self, ids: Workgroups, done: Executed, progress: Callable[[int], None] | None
    ) -> None:
        kernel = self.program.kernel
        workgroup = np.repeat(np.arange(len(ids)), self.num_warps)
        scratch = allocate_scratch(kernel, self.memory, len(workgroup))
        try:
            gang = Gang(
                memory=self.memory,
                lds=Lds(workgroup_of_wave=workgroup, size=self.lds_bytes),
                workgroup=workgroup,
                lanes=kernel.wavefront_size,
                code=self.image.address,
                scratch=scratch.address if scratch else 0,
                scratch_size=kernel.private_segment,
            )
            waves = self._waves(gang, ids)
            scheduler = Scheduler(self.program, waves, wave_order_seed=self.wave_order_seed)
            done.blocks += scheduler.run(self.entry, progress)
        finally:
            if scratch:
                self.memory.release(scratch)
        done.lds_races.extend(gang.lds.races)
        done.unwritten_lds_reads += gang.lds.unwritten_reads

    def _waves(self, gang: Gang, ids: Workgroups) -> Waves:
        """The waves of a gang with the registers that the hardware sets up.

        LLVM AMDGPU usage, "Initial Kernel Execution State": user SGPRs in the order of the enabling
        properties, then the workgroup's indices and, on gfx90a, where the wave's scratch memory
        begins; the work-item's index in the first VGPR.
        """
        kernel = self.program.kernel
        granules = kernel.resources[0] & 0x3F
        waves = Waves.poisoned(gang, num_vectors=8 * (granules + 1))
        wave = np.tile(np.arange(self.num_warps), len(ids))
        lane = np.arange(gang.lanes)
        waves.u32[FIRST_VECTOR][...] = wave[:, None] * gang.lanes + lane
        scalar = waves.scalar
        position = 0
        for bit, size in enumerate((4, 2, 2, 2, 2, 2, 1)):
            if kernel.properties >> bit & 1:
                if bit == 0:
                    scalar[:, position : position + 4] = private_segment_buffer(gang)
                if bit == 3:
                    scalar[:, position] = self.kernarg.address & 0xFFFFFFFF
                    scalar[:, position + 1] = self.kernarg.address >> 32
                position += size
        length, offset = kernel.preload & 0x7F, kernel.preload >> 7
        if length:
            padded = self.segment + bytes(4 * (offset + length))
            scalar[:, position : position + length] = np.frombuffer(
                padded, np.uint32, length, 4 * offset
            )
            position += length
        position = max(position, kernel.resources[1] >> 1 & 0x1F)
        group = ids[gang.workgroup]
        if self.program.target.family == "rdna4":
            scalar[:, _TTMP9] = group[:, 0]
            scalar[:, _TTMP7] = group[:, 1] | group[:, 2] << np.uint32(16)
            scalar[:, _TTMP8] = wave.astype(np.uint32) << np.uint32(25)
            return waves
        for axis in range(3):
            if kernel.resources[1] >> (7 + axis) & 1:
                scalar[:, position] = group[:, axis]
                position += 1
        if self.program.target.arch == "gfx90a" and kernel.resources[1] & 1:
            position += kernel.resources[1] >> 10 & 1  # the workgroup's information
            scalar[:, position] = wave_offsets(waves)
        return waves


def all_workgroups(grid: tuple[int, int, int]) -> Workgroups:
    """Those of a grid, x fastest."""
    x, y, z = grid
    ids = [(i, j, k) for k, j, i in product(range(z), range(y), range(x))]
    return np.array(ids, np.uint32).reshape(-1, 3)
