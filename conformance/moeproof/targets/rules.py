"""What a compiled kernel must not be: each rule is a sentence about the facts, or None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from moeproof.architectures import ARCHITECTURES
from moeproof.targets.dots import Dot
from moeproof.targets.facts import KernelFacts


def violations(facts: KernelFacts) -> tuple[str, ...]:
    """What is wrong with a kernel, in words; empty if nothing is."""
    return tuple(found for found in (rule(facts) for rule in _RULES) if found is not None)


def needs_matrix_unit(dot: Dot, target: str) -> bool:
    """Whether a dot must become matrix instructions.

    float32 operands with ``ieee`` precision need not: NVIDIA's and RDNA's matrix units have no such
    product. With a shorter input precision they must where the architecture has one; formats of at
    most 16 bits always must.
    """
    if dot.element in ("f32", "f64"):
        return (
            dot.element == "f32" and dot.precision != "ieee" and ARCHITECTURES[target].tf32_products
        )
    return True


def _shared_memory(facts: KernelFacts) -> str | None:
    used, limit = facts.resources.shared_bytes, facts.shared_limit
    return f"{used:,} bytes of shared memory; the limit is {limit:,}" if used > limit else None


def _spills(facts: KernelFacts) -> str | None:
    """In the main loop, or in any loop of a kernel without matrix instructions in one."""
    if facts.main_loop is not None:
        count, where = facts.main_loop.spills, "the main loop"
    else:
        count, where = facts.spills_in_loops, "a loop"
    return f"{count} instructions of {where} spill registers to memory" if count else None


def _matrix_unit(facts: KernelFacts) -> str | None:
    needed = [dot for dot in facts.dots if needs_matrix_unit(dot, facts.configuration.target)]
    if not needed or facts.matrix:
        return None
    dot = needed[0]
    return (
        f"no matrix instruction for a dot of {dot.m}x{dot.n}x{dot.k} in {dot.element}"
        f" ({dot.precision})"
    )


def _serial_products(facts: KernelFacts) -> str | None:
    """Products of one dot that wait for each other.

    ptxas has every wgmma of a kernel do so where it cannot tell that nothing touches the sums in
    between, and says no more than a warning (C7510 to C7519, "wgmma.mma_async instructions are
    serialized").
    """
    loop = facts.main_loop
    if loop is None:
        return None
    dots = Counter(dot.loop for dot in facts.dots if dot.loop is not None)
    if loop.matrix_waits < loop.matrix or loop.matrix <= max(dots.values(), default=0):
        return None
    return (
        f"each of the {loop.matrix} matrix instructions of the main loop waits for the one before"
    )


def _waits(facts: KernelFacts) -> str | None:
    if not facts.missing_waits:
        return None
    return f"{len(facts.missing_waits)} waits are missing, the first: {facts.missing_waits[0]}"


_RULES: tuple[Callable[[KernelFacts], str | None], ...] = (
    _shared_memory,
    _spills,
    _matrix_unit,
    _serial_products,
    _waits,
)
