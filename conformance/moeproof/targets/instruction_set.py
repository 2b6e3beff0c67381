"""What an instruction is for: questions about a listing that each vendor answers its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from moeproof.targets.listing import Instruction


@dataclass(frozen=True)
class MemoryLoad:
    """A load from global memory.

    Attributes:
        width: bytes a lane; 0 for a copy that one lane starts for a whole tile (TMA).
        kind: where to: "registers", or "cp.async", "TMA" or "LDS", which go to shared memory
            without passing through registers.
        destination: the registers that are loaded, if any are.
    """

    width: int
    kind: str
    destination: frozenset[str] = frozenset()


class InstructionSet(Protocol):
    """One vendor's instructions."""

    def matrix_path(self, instruction: Instruction) -> str | None:
        """Which matrix unit multiplies: "mma.sync", "wgmma", "tcgen05", "mfma", "wmma"."""

    def matrix_products(self, instruction: Instruction) -> int | None:
        """Multiplications of a matrix instruction of one warp; None where the code does not say."""

    def warps_at_once(self, instruction: Instruction) -> int:
        """Warps that a matrix instruction belongs to: 4 for a warp group's, else 1."""

    def waits_for_products(self, instruction: Instruction) -> bool:
        """Whether the program stops here until all matrix instructions before this have ended."""

    def global_load(self, instruction: Instruction) -> MemoryLoad | None:
        """The load from global memory that this is, if it is one."""

    def shared_load_width(self, instruction: Instruction) -> int | None:
        """Bytes a lane that this loads from shared memory, if it does."""

    def spills(self, instruction: Instruction) -> bool:
        """Whether a register is saved to memory or fetched from there."""

    def wide_address(self, instruction: Instruction) -> bool:
        """Whether this is 64-bit integer arithmetic, or the upper half of it."""

    def registers(self, text: str) -> frozenset[str]:
        """The registers that operands name, ranges taken apart."""
