"""Instructions that end a basic block: branches, barriers, the end of the program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.decoding import Instruction
from moeproof.amd.operands import Target, source, unknown
from moeproof.amd.state import EXEC, VCC, Waves

# One value a wave, `(waves,)`.
Condition = Callable[[Waves], NDArray[np.bool_]]
Jump = Callable[[Waves], NDArray[np.int64]]


class ExitKind(Enum):
    """How a basic block is left."""

    CONTINUE = auto()
    BRANCH = auto()
    JUMP = auto()
    BARRIER = auto()
    END = auto()


@dataclass(frozen=True)
class Exit:
    """Where waves go after a basic block. Addresses are relative to the code object's image.

    following: the address behind the block. target: of a branch, taken where `condition` holds or
    there is none. jump: addresses that waves have computed.
    """

    kind: ExitKind
    following: int
    target: int = 0
    condition: Condition | None = None
    jump: Jump | None = None


_CONDITIONS: dict[str, Condition] = {
    "scc0": lambda waves: ~waves.scc[:, 0],
    "scc1": lambda waves: waves.scc[:, 0],
    "vccz": lambda waves: _mask_bits(waves, VCC) == 0,
    "vccnz": lambda waves: _mask_bits(waves, VCC) != 0,
    "execz": lambda waves: _mask_bits(waves, EXEC) == 0,
    "execnz": lambda waves: _mask_bits(waves, EXEC) != 0,
}


def _mask_bits(waves: Waves, operand: int) -> NDArray[np.uint64]:
    bits = waves.u32[operand] if waves.lanes == 32 else waves.u64[operand]
    return bits[:, 0]


def block_exit(instruction: Instruction, target: Target) -> Exit | None:
    """What the instruction means for the flow of control; None if it just goes on."""
    name = instruction.name
    following = instruction.address + instruction.size
    if name == "s_branch":
        return Exit(ExitKind.BRANCH, following, branch_target(instruction))
    if name.startswith("s_cbranch_"):
        condition = _CONDITIONS.get(name.removeprefix("s_cbranch_"))
        if condition is None:
            raise unknown(instruction, "conditional branch")
        return Exit(ExitKind.BRANCH, following, branch_target(instruction), condition)
    if name in ("s_barrier", "s_barrier_wait"):
        return Exit(ExitKind.BARRIER, following)
    if name == "s_endpgm":
        return Exit(ExitKind.END, following)
    if name == "s_setpc_b64":
        operand = source(instruction, "src0", target)
        return Exit(
            ExitKind.JUMP,
            following,
            jump=lambda waves: waves.u64[operand][:, 0].astype(np.int64) - waves.gang.code,
        )
    return None


def branch_target(instruction: Instruction) -> int:
    """The address that a relative branch goes to."""
    words = instruction.fields["simm16"]
    words = (words ^ 0x8000) - 0x8000
    return instruction.address + 4 + 4 * words
