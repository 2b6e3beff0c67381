"""Launches a kernel of a code object into the emulator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moeproof.amd.code_object import CodeObject, KernelDescription
from moeproof.amd.decoding import UnknownInstruction
from moeproof.amd.kernel_arguments import kernarg_segment
from moeproof.amd.lds_record import LdsRace
from moeproof.amd.memory import AddressSpace
from moeproof.amd.processes import run_spread
from moeproof.amd.translate import Program, program_of
from moeproof.amd.workgroups import WorkgroupRunner, all_workgroups

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
    processes: int = 1,
) -> LaunchFigures:
    """Executes a kernel for a whole grid, and returns when it has ended.

    Args:
        grid: workgroups along x, y and z.
        num_warps: waves of a workgroup.
        arguments: the explicit arguments, packed as the metadata's offsets say, or one value each.
        shared_bytes: LDS of a workgroup.
        memory: what the kernel may touch.
        wave_order_seed: run wave by wave in an order drawn from it, not together.
        processes: divide the workgroups among up to so many, where that pays and cannot change the
            result: there is no seed, and no atomic in global memory.

    Raises:
        ValueError: processes is less than 1.
        KeyError: no such kernel.
        UnknownInstruction: an instruction that is not emulated is reached.
        MemoryFault, LdsFault: an access outside of every allocation.
        WorkgroupRaceError: workgroups of two processes met in global memory.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    program = program_of(code, kernel_name)
    kernel = program.kernel
    _require_default_modes(kernel)
    segment = kernarg_segment(
        kernel, arguments, grid=grid, workgroup_size=num_warps * kernel.wavefront_size
    )
    image = memory.allocate("code", code.image)
    kernarg = memory.allocate("kernel arguments", segment)
    runner = WorkgroupRunner(
        program=program,
        num_warps=num_warps,
        lds_bytes=max(shared_bytes, kernel.group_segment),
        memory=memory,
        image=image,
        kernarg=kernarg,
        segment=segment,
        wave_order_seed=wave_order_seed,
    )
    try:
        parts = run_spread(runner, all_workgroups(grid), processes=processes)
    finally:
        memory.release(kernarg)
        memory.release(image)
    blocks: Counter[int] = sum((part.blocks for part in parts), Counter())
    return LaunchFigures(
        waves=num_warps * int(np.prod(grid)),
        opcodes=_opcodes(program, blocks),
        seconds_translating=sum(part.seconds_translating for part in parts),
        seconds_executing=sum(part.seconds for part in parts),
        lds_races=tuple(race for part in parts for race in part.lds_races),
        unwritten_lds_reads=sum(part.unwritten_lds_reads for part in parts),
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
