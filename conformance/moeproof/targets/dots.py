"""The matrix products that a kernel's source asks for, from Triton's intermediate form."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DOT = re.compile(r"= tt\.dot(_scaled)? (.*) : tensor<(.*?)>.* -> tensor<(?:\d+x)?(\d+)x(\d+)x\w+>")
_PRECISION = re.compile(r"inputPrecision = (\w+)")
_LOOP = re.compile(r"\bscf\.(for|while)\b")


@dataclass(frozen=True)
class Dot:
    """One ``tl.dot``.

    Attributes:
        m, n, k: of the tiles that are multiplied.
        element: type of the left operand's elements: "bf16", "f32".
        precision: "ieee", "tf32", ...; "ieee" where the source does not say, which matters for
            float32 alone.
        loop: number of the innermost loop that it stands in, or None.
    """

    m: int
    n: int
    k: int
    element: str
    precision: str
    loop: int | None

    @property
    def products(self) -> int:
        """Multiplications of one execution by a program."""
        return self.m * self.n * self.k


def read_dots(ttir: str) -> tuple[Dot, ...]:
    """The dots of a kernel, in order."""
    dots = []
    open_loops: list[tuple[int, int]] = []  # (depth outside, number)
    depth = loops = 0
    for line in ttir.splitlines():
        if _LOOP.search(line):
            open_loops.append((depth, loops))
            loops += 1
        # Braces of attributes open and close on one line.
        depth += line.count("{") - line.count("}")
        while open_loops and depth <= open_loops[-1][0] and not _LOOP.search(line):
            open_loops.pop()
        found = _DOT.search(line)
        if found:
            *shape, element = found[3].split("x")
            precision = _PRECISION.search(found[2])
            dots.append(
                Dot(
                    m=int(found[4]),
                    n=int(found[5]),
                    k=int(shape[-1]) * (2 if found[1] and element == "i8" else 1),
                    element=element,
                    precision=precision[1] if precision else "ieee",
                    loop=open_loops[-1][1] if open_loops else None,
                )
            )
    return tuple(dots)
