"""Turns a code object's instructions into Python functions, one basic block at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from moeproof.amd.buffer_steps import buffer_step
from moeproof.amd.code_object import CodeObject, KernelDescription
from moeproof.amd.control_flow import Exit, ExitKind, block_exit
from moeproof.amd.conversion_steps import conversion_step
from moeproof.amd.decoding import Instruction, UnknownInstruction, decode, family_of
from moeproof.amd.dual_issue import dual_step
from moeproof.amd.lane_steps import lane_step, step_with_moved_lanes
from moeproof.amd.lds_steps import lds_step
from moeproof.amd.matrix_steps import matrix_step
from moeproof.amd.memory_steps import memory_step
from moeproof.amd.operands import Step, Target, destination, unknown
from moeproof.amd.packed import packed_step
from moeproof.amd.scalar_alu import scalar_step
from moeproof.amd.state import Waves
from moeproof.amd.vector_alu import operation_step
from moeproof.amd.vector_masks import mask_step
from moeproof.amd.wait_steps import counted, wait_step

# What only concerns time, caches and the order of memory accesses, of which there is one here; but
# see wait_steps.
_NO_EFFECT = {
    "buffer_gl0_inv",
    "buffer_gl1_inv",
    "buffer_inv",
    "buffer_inv_sc1",
    "buffer_wbl2",
    "global_inv",
    "global_wb",
    "global_wbinv",
    "s_barrier_signal",
    "s_clause",
    "s_delay_alu",
    "s_dcache_inv",
    "s_icache_inv",
    "s_nop",
    "s_set_inst_prefetch_distance",
    "s_inst_prefetch",
    "s_setprio",
    "s_sleep",
    "v_nop",
}
_NO_EFFECT_PREFIXES = ("s_wait", "s_prefetch")
_DEALLOCATE_REGISTERS = 3  # the only message that a compute kernel sends: RDNA3 ISA, s_sendmsg
_LONGEST_BLOCK = 4096

_STEP_MAKERS: tuple[Callable[[Instruction, Target], Step | None], ...] = (
    scalar_step,
    operation_step,
    mask_step,
    packed_step,
    conversion_step,
    dual_step,
    matrix_step,
    lane_step,
    lds_step,
    memory_step,
    buffer_step,
)


@dataclass
class Block:
    """A basic block: its steps, the instruction that each came from, and how it ends.

    counted: every instruction of the block by name, those without effect included.
    """

    start: int
    steps: list[Step]
    origins: list[Instruction]
    exit: Exit
    counted: Counter[str]

    @cached_property
    def length(self) -> int:
        """Number of instructions."""
        return self.counted.total()


@dataclass
class Program:
    """The blocks of one kernel, translated when first reached."""

    code: CodeObject
    kernel: KernelDescription
    blocks: dict[int, Block] = field(default_factory=dict)
    seconds: float = 0.0

    @cached_property
    def target(self) -> Target:
        return Target(
            arch=self.code.arch,
            family=family_of(self.code.arch),
            lanes=self.kernel.wavefront_size,
            accumulator_offset=self.kernel.accumulator_offset,
        )

    def block(self, address: int) -> Block:
        """The block that begins at `address`.

        Raises UnknownInstruction for an instruction that is not emulated, with the kernel's name.
        """
        found = self.blocks.get(address)
        if found is None:
            started = time.process_time()
            try:
                found = self.blocks[address] = self._translate(address)
            except UnknownInstruction as error:
                raise UnknownInstruction(f"kernel {self.kernel.name!r}: {error}") from None
            finally:
                self.seconds += time.process_time() - started
        return found

    def _translate(self, start: int) -> Block:
        steps: list[Step] = []
        origins: list[Instruction] = []
        counted: Counter[str] = Counter()
        address = start
        while address in self.code.text and len(steps) < _LONGEST_BLOCK:
            instruction = decode(self.code, address)
            counted[instruction.name] += 1
            leaving = block_exit(instruction, self.target)
            if leaving is not None:
                return Block(start, steps, origins, leaving, counted)
            step = step_of(instruction, self.target)
            if step is not None:
                steps.append(step)
                origins.append(instruction)
            address += instruction.size
        if address not in self.code.text:
            raise UnknownInstruction(f"execution runs past the end of the code at {address:#x}")
        return Block(start, steps, origins, Exit(ExitKind.CONTINUE, address), counted)


def program_of(code: CodeObject, kernel_name: str) -> Program:
    """The translation of one kernel, kept with the code object. Raises KeyError."""
    if kernel_name not in code.translations:
        code.translations[kernel_name] = Program(code, code.kernels[kernel_name])
    program: Program = code.translations[kernel_name]
    return program


def has_effect(name: str) -> bool:
    """Whether an instruction of this name changes what is computed here."""
    return name not in _NO_EFFECT and not name.startswith(_NO_EFFECT_PREFIXES)


def step_of(instruction: Instruction, target: Target) -> Step | None:
    """The function that executes the instruction; None if nothing is to be done.

    Raises UnknownInstruction.
    """
    name = instruction.name
    if not has_effect(name):
        return wait_step(instruction, target)
    if name == "s_sendmsg" and instruction.fields["simm16"] == _DEALLOCATE_REGISTERS:
        return None
    if name == "s_getpc_b64":
        return _program_counter(instruction, target)
    step = step_with_moved_lanes(instruction, target, _made) or _made(instruction, target)
    if step is None:
        raise unknown(instruction, "not emulated")
    return counted(instruction, target, step)


def _made(instruction: Instruction, target: Target) -> Step | None:
    for make in _STEP_MAKERS:
        step = make(instruction, target)
        if step is not None:
            return step
    return None


def _program_counter(instruction: Instruction, target: Target) -> Step:
    operand = destination(instruction, "sdst", target)
    following = instruction.address + instruction.size

    def step(waves: Waves) -> None:
        waves.u64[operand][...] = np.uint64(waves.gang.code + following)

    return step
