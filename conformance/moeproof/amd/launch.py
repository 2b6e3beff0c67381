"""Launches a kernel of a code object into the emulator."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.code_object import CodeObject, KernelDescription
from moeproof.amd.decoding import UnknownInstruction
from moeproof.amd.execution import Scheduler
from moeproof.amd.kernel_arguments import kernarg_segment
from moeproof.amd.lds import Lds
from moeproof.amd.lds_record import LdsRace
from moeproof.amd.memory import AddressSpace, Allocation
from moeproof.amd.state import FIRST_VECTOR, Gang, Waves
from moeproof.amd.translate import Program, program_of

# Waves that run together: enough to hide the cost of a numpy call, few enough for the caches.
_WAVES_OF_A_GANG = 32
_SCRATCH_POISON = 0xFF
_PRELOADED_ENTRY = 256  # LLVM AMDGPU usage, "Preloaded Kernel Arguments"
# The trap registers that gfx12 gives a wave: its index, and those of its workgroup.
_TTMP7, _TTMP8, _TTMP9 = 115, 116, 117
_DEFAULT_FLOAT_MODE = 0xF0  # round to nearest even, denormals kept


@dataclass(frozen=True)
class LaunchFigures:
    """What a launch did.

    opcodes: instructions executed by name, counting each wave. seconds: of processor time.
    lds_races: accesses of two waves to the same bytes, one of them a store, with no barrier in
    between. unwritten_lds_reads: lanes that read LDS before anything was written there.
    """

    waves: int
    opcodes: Counter[str]
    seconds_translating: float
    seconds_executing: float
    lds_races: tuple[LdsRace, ...]
    unwritten_lds_reads: int

    @property
    def wave_instructions(self) -> int:
        """Instructions executed, counting each wave."""
        return self.opcodes.total()


def launch(
    code: CodeObject,
    kernel_name: str,
    *,
    grid: tuple[int, int, int],
    num_warps: int,
    arguments: bytes | Sequence[int | float],
    shared_bytes: int,
    memory: AddressSpace,
    wave_order_seed: int | None = None,
) -> LaunchFigures:
    """Executes a kernel for a whole grid, and returns when it has ended.

    Args:
        grid: workgroups along x, y and z.
        num_warps: waves of a workgroup.
        arguments: the explicit arguments, packed as the metadata's offsets say, or one value each.
        shared_bytes: LDS of a workgroup.
        memory: what the kernel may touch.
        wave_order_seed: run wave by wave in an order drawn from it, not together.

    Raises:
        KeyError: no such kernel.
        UnknownInstruction: an instruction that is not emulated is reached.
        MemoryFault, LdsFault: an access outside of every allocation.
    """
    program = program_of(code, kernel_name)
    kernel = program.kernel
    _require_default_modes(kernel)
    translating, started = program.seconds, time.process_time()
    segment = kernarg_segment(
        kernel, arguments, grid=grid, workgroup_size=num_warps * kernel.wavefront_size
    )
    image = memory.allocate("code", code.image)
    kernarg = memory.allocate("kernel arguments", segment)
    executed: Counter[int] = Counter()
    races: list[LdsRace] = []
    unwritten = 0
    try:
        for ids in _gangs(grid, num_warps):
            scratch = _scratch(kernel, memory, len(ids) * num_warps)
            gang = Gang(
                memory=memory,
                lds=Lds(
                    workgroup_of_wave=np.repeat(np.arange(len(ids)), num_warps),
                    size=max(shared_bytes, kernel.group_segment),
                ),
                workgroup=np.repeat(np.arange(len(ids)), num_warps),
                lanes=kernel.wavefront_size,
                code=image.address,
                scratch=scratch.address if scratch else 0,
                scratch_size=kernel.private_segment,
            )
            waves = _start(program, gang, ids, num_warps, kernarg.address, segment)
            try:
                scheduler = Scheduler(program, waves, wave_order_seed=wave_order_seed)
                executed += scheduler.run(_entry(kernel))
            finally:
                if scratch:
                    memory.release(scratch)
            races.extend(gang.lds.races)
            unwritten += gang.lds.unwritten_reads
    finally:
        memory.release(kernarg)
        memory.release(image)
    seconds = time.process_time() - started
    translating = program.seconds - translating
    return LaunchFigures(
        waves=num_warps * int(np.prod(grid)),
        opcodes=_opcodes(program, executed),
        seconds_translating=translating,
        seconds_executing=seconds - translating,
        lds_races=tuple(races),
        unwritten_lds_reads=unwritten,
    )


def _opcodes(program: Program, executed: Counter[int]) -> Counter[str]:
    opcodes: Counter[str] = Counter()
    for start, times in executed.items():
        for name, count in program.blocks[start].counted.items():
            opcodes[name] += count * times
    return opcodes


def _require_default_modes(kernel: KernelDescription) -> None:
    mode = kernel.resources[0] >> 12 & 0xFF
    if mode != _DEFAULT_FLOAT_MODE:
        raise UnknownInstruction(
            f"kernel {kernel.name!r}: rounding and denormal mode {mode:#x}; emulated is "
            f"{_DEFAULT_FLOAT_MODE:#x}, round to nearest even with denormals"
        )


def _gangs(grid: tuple[int, int, int], num_warps: int) -> Iterator[NDArray[np.uint32]]:
    """The workgroups' indices (x, y, z), x fastest, for one gang after another."""
    x, y, z = grid
    ids = np.array([(i, j, k) for k, j, i in product(range(z), range(y), range(x))], np.uint32)
    size = max(_WAVES_OF_A_GANG // num_warps, 1)
    for first in range(0, len(ids), size):
        yield ids[first : first + size]


def _scratch(kernel: KernelDescription, memory: AddressSpace, waves: int) -> Allocation | None:
    """Private memory of all lanes of a gang, poisoned; None if the kernel uses none."""
    if not kernel.private_segment:
        return None
    size = waves * kernel.wavefront_size * kernel.private_segment
    return memory.allocate("scratch", bytes([_SCRATCH_POISON]) * size)


def _entry(kernel: KernelDescription) -> int:
    return kernel.entry + (_PRELOADED_ENTRY if kernel.preload & 0x7F else 0)


def _start(
    program: Program,
    gang: Gang,
    ids: NDArray[np.uint32],
    num_warps: int,
    kernarg: int,
    segment: bytes,
) -> Waves:
    """The waves of a gang with the registers that the hardware sets up.

    LLVM AMDGPU usage, "Initial Kernel Execution State": user SGPRs in the order of the enabling
    properties, then the workgroup's indices; the work-item's index in the first VGPR.
    """
    kernel = program.kernel
    granules = kernel.resources[0] & 0x3F
    waves = Waves.poisoned(gang, num_vectors=8 * (granules + 1))
    wave = np.tile(np.arange(num_warps), len(ids))
    lane = np.arange(gang.lanes)
    waves.u32[FIRST_VECTOR][...] = wave[:, None] * gang.lanes + lane
    scalar = waves.scalar
    position = 0
    for bit, size in enumerate((4, 2, 2, 2, 2, 2, 1)):
        if kernel.properties >> bit & 1:
            if bit == 3:
                scalar[:, position] = kernarg & 0xFFFFFFFF
                scalar[:, position + 1] = kernarg >> 32
            position += size
    length, offset = kernel.preload & 0x7F, kernel.preload >> 7
    if length:
        padded = segment + bytes(4 * (offset + length))
        scalar[:, position : position + length] = np.frombuffer(
            padded, np.uint32, length, 4 * offset
        )
        position += length
    position = max(position, kernel.resources[1] >> 1 & 0x1F)
    group = ids[gang.workgroup]
    if program.target.family == "rdna4":
        scalar[:, _TTMP9] = group[:, 0]
        scalar[:, _TTMP7] = group[:, 1] | group[:, 2] << np.uint32(16)
        scalar[:, _TTMP8] = wave.astype(np.uint32) << np.uint32(25)
        return waves
    for axis in range(3):
        if kernel.resources[1] >> (7 + axis) & 1:
            scalar[:, position] = group[:, axis]
            position += 1
    return waves
