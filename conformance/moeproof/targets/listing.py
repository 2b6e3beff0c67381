"""A kernel's machine code as text: instructions, branches and the loops that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly.

    Attributes:
        opcode: with its suffixes: ``LDG.E.128``, ``v_mfma_f32_32x32x8_bf16``.
        operands: the rest of the line.
        label: of the place that a branch goes to, else None.
        note: the compiler's comment on the line.
    """

    opcode: str
    operands: str
    label: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Loop:
    """Instructions from the place that a backward branch goes to, to that branch.

    Attributes:
        first, last: numbers of the instructions, both inside.
    """

    first: int
    last: int

    def holds(self, other: Loop) -> bool:
        """Whether the other is a smaller loop inside this one."""
        return self != other and self.first <= other.first and other.last <= self.last


@dataclass(frozen=True)
class Listing:
    """All instructions of a kernel in order.

    Attributes:
        instructions: in order of their addresses.
        labels: name -> number of the instruction after it.
    """

    instructions: tuple[Instruction, ...]
    labels: dict[str, int]

    @cached_property
    def loops(self) -> tuple[Loop, ...]:
        """Every loop; branches back to the same place are one loop."""
        ends: dict[int, int] = {}
        for number, instruction in enumerate(self.instructions):
            first = self.labels.get(instruction.label or "")
            if first is not None and first < number:
                ends[first] = number
        return tuple(Loop(first, last) for first, last in sorted(ends.items()))

    @cached_property
    def innermost_loops(self) -> tuple[Loop, ...]:
        """The loops that have no other inside."""
        loops = self.loops
        return tuple(loop for loop in loops if not any(loop.holds(other) for other in loops))

    def body(self, loop: Loop) -> tuple[Instruction, ...]:
        """The loop's instructions."""
        return self.instructions[loop.first : loop.last + 1]

    def loop_with_most(self, counted: Callable[[Instruction], bool]) -> Loop | None:
        """The innermost loop with the most instructions of a kind; None if no loop has one."""

        def count(loop: Loop) -> int:
            return sum(map(counted, self.body(loop)))

        best = max(self.innermost_loops, key=count, default=None)
        return best if best is not None and count(best) else None


def read_listing(lines: Iterable[Instruction | str]) -> Listing:
    """A listing of instructions and, as strings, the labels between them."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(instructions)
        else:
            instructions.append(line)
    return Listing(tuple(instructions), labels)
