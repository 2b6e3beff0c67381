"""Where the elements of a matrix instruction lie in the registers of a wave.

D = A (M, K) @ B (K, N) + C (M, N). The lanes form groups of M (= N) lanes. Lane ``group * M + i``
holds part of row i of A, part of column i of B, and part of column i of C and D. The formulas are
those of the CDNA3 ISA manual, section 7.1, the RDNA3 manual, section 7.9, and the RDNA4 manual,
section 7.12, as AMD's matrix instruction calculator prints them; the forms that only gfx950 has
(see ``matrix``) are consistent with Triton's code for them, not verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class OperandLayout:
    """A or B: each lane holds ``elements`` consecutive elements in its registers.

    Element e of a lane of group g has k = (e // run) * run * groups + g * run + e % run.

    Attributes:
        elements: a lane. groups: of lanes that hold different k.
        run: elements of one lane with consecutive k.
        copies: times that the lanes hold everything (RDNA3: both half waves hold all of A and B).
    """

    elements: int
    groups: int
    run: int
    copies: int = 1

    @cached_property
    def k(self) -> Indices:
        """k of each element and group, ``(elements, groups)``."""
        element, group = np.mgrid[: self.elements, : self.groups]
        step, rest = np.divmod(element, self.run)
        k: Indices = step * self.run * self.groups + group * self.run + rest
        return k

    @cached_property
    def by_k(self) -> Indices:
        """Where each k is in ``k``, counted row by row: ``(elements * groups,)``."""
        return np.argsort(self.k, axis=None)


@dataclass(frozen=True)
class ResultLayout:
    """C and D: a lane holds ``registers`` elements of its column.

    Register r of a lane of group g has row (r // run) * run * groups + g * run + r % run.

    Attributes:
        registers: a lane. groups: of lanes that hold different rows. run: consecutive rows.
    """

    registers: int
    groups: int
    run: int

    @property
    def rows(self) -> int:
        return self.registers * self.groups

    def to_registers(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """View ``(w, rows, columns)`` as ``(registers // run, run, w, groups, columns)``."""
        waves, _, columns = matrix.shape
        split = matrix.reshape(waves, self.registers // self.run, self.groups, self.run, columns)
        return split.transpose(1, 3, 0, 2, 4)


def mfma_operand(*, outer: int, depth: int, run: int | None = None) -> OperandLayout:
    """A or B of an MFMA with ``outer`` rows and ``depth`` = K."""
    groups = 64 // outer
    elements = depth // groups
    return OperandLayout(elements=elements, groups=groups, run=run or elements)


def mfma_result(rows: int) -> ResultLayout:
    """C and D of a square MFMA: four rows to a group at a time."""
    groups = 64 // rows
    return ResultLayout(registers=rows // groups, groups=groups, run=4)


RDNA3_OPERAND = OperandLayout(elements=16, groups=1, run=16, copies=2)
RDNA3_RESULT = ResultLayout(registers=8, groups=2, run=1)
RDNA4_OPERAND = OperandLayout(elements=8, groups=2, run=8)
RDNA4_RESULT = ResultLayout(registers=8, groups=2, run=8)
