"""Many kernels as a few lines: what the table on the terminal and the page show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from moeproof.targets.facts import KernelFacts
from moeproof.targets.rules import violations


@dataclass(frozen=True)
class Summary:
    """All configurations of one kernel for one target in one dtype.

    Attributes:
        target, kernel, dtype: which.
        configurations: how many.
        registers: kind, as in :class:`moeproof.targets.facts.Resources` -> fewest and most.
        scratch_bytes: most of a lane.
        shared_bytes: most of a program. shared_limit: the architecture's.
        spilling: configurations with instructions that spill. spilling_in_loops: those where
            a loop has them.
        matrix_paths: matrix units that are used.
        loads: kind and bytes a lane of the loads from global memory, such as "cp.async 16": those
            in main loops, or all of a kernel that has none.
        wide_addresses: fewest and most 64-bit integer instructions, counted in the same places.
        work: least and most of :attr:`moeproof.targets.facts.MainLoop.work`, where it is known.
        ahead: the least :attr:`moeproof.targets.facts.MainLoop.matrix_ahead`, where there is one.
        warps: least and most that are resident on a unit. most_warps: that it can hold.
        broken: configurations that violate a rule.
    """

    target: str
    kernel: str
    dtype: str
    configurations: int
    registers: Mapping[str, tuple[int, int]]
    scratch_bytes: int
    shared_bytes: int
    shared_limit: int
    spilling: int
    spilling_in_loops: int
    matrix_paths: tuple[str, ...]
    loads: tuple[str, ...]
    wide_addresses: tuple[int, int]
    work: tuple[float, float] | None
    ahead: int | None
    warps: tuple[int, int]
    most_warps: int
    broken: int


def summarize(kernels: Sequence[KernelFacts]) -> list[Summary]:
    """One summary for each kernel and dtype of each target, in the order in which they come."""
    groups: dict[tuple[str, str, str], list[KernelFacts]] = {}
    for facts in kernels:
        configuration = facts.configuration
        key = (configuration.target, configuration.kernel, configuration.dtype)
        groups.setdefault(key, []).append(facts)
    return [_summary(*key, group) for key, group in groups.items()]


def _summary(target: str, kernel: str, dtype: str, group: Sequence[KernelFacts]) -> Summary:
    loops = [facts.main_loop for facts in group if facts.main_loop is not None]
    addressed = [facts.main_loop or facts for facts in group]
    work = [loop.work for loop in loops if loop.work is not None]
    ahead = [loop.matrix_ahead for loop in loops if loop.matrix_ahead is not None]
    return Summary(
        target=target,
        kernel=kernel,
        dtype=dtype,
        configurations=len(group),
        registers={
            kind: _ends(facts.resources.registers[kind] for facts in group)
            for kind in group[0].resources.registers
        },
        scratch_bytes=max(facts.resources.scratch_bytes for facts in group),
        shared_bytes=max(facts.resources.shared_bytes for facts in group),
        shared_limit=group[0].shared_limit,
        spilling=sum(facts.spills > 0 for facts in group),
        spilling_in_loops=sum(facts.spills_in_loops > 0 for facts in group),
        matrix_paths=tuple(sorted({path for facts in group for path in facts.matrix_paths})),
        loads=tuple(
            sorted(
                {
                    f"{kind} {width}" if width else kind
                    for part in addressed
                    for kind, width in part.global_loads
                }
            )
        ),
        wide_addresses=_ends(part.wide_addresses for part in addressed),
        work=(min(work), max(work)) if work else None,
        ahead=min(ahead, default=None),
        warps=_ends(facts.occupancy.warps for facts in group),
        most_warps=group[0].occupancy.most_warps,
        broken=sum(bool(violations(facts)) for facts in group),
    )


def _ends(counts: Iterable[int]) -> tuple[int, int]:
    found = sorted(counts)
    return found[0], found[-1]
