"""Missing waits are found in real binaries, from which waits are taken one after another."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import pytest

from moeproof.amd.code_object import CodeObject
from moeproof.amd.decoding import ARCHITECTURES, Instruction, family_of
from moeproof.amd.register_use import is_vector_memory, register_use, returns_value
from moeproof.amd.waits import branches, check_waits, missing_waits, reachable

KERNELS = ("matmul", "softmax")


@pytest.fixture(params=ARCHITECTURES)
def codes(request: pytest.FixtureRequest, kernels_of: Any) -> list[CodeObject]:
    kernels = kernels_of(request.param)
    return [kernels.code(name) for name in _names(kernels)]


def _names(kernels: Any) -> list[str]:
    stems = sorted(path.stem for path in kernels.directory.glob("*.hsaco"))
    return [next(stem for stem in stems if stem.startswith(name)) for name in KERNELS]


def _decoded(code: CodeObject) -> tuple[dict[int, Instruction], list[int]]:
    (kernel,) = code.kernels.values()
    entries = [kernel.entry]
    return reachable(code, entries), entries


def _is_wait(instruction: Instruction) -> bool:
    name = instruction.name
    return name.startswith(("s_waitcnt", "s_wait_")) and not name.endswith(("depctr", "_alu"))


def test_compilers_forget_no_wait(codes: list[CodeObject]) -> None:
    for code in codes:
        for name in code.kernels:
            assert [str(found) for found in missing_waits(code, name)] == []


def test_waits_that_matter_are_missed(codes: list[CodeObject]) -> None:
    """A machine whose loads are done as late as they may agrees about every wait."""
    removed = caught = 0
    for code in codes:
        instructions, entries = _decoded(code)
        for address in [a for a, i in instructions.items() if _is_wait(i)]:
            rest = {a: i for a, i in instructions.items() if a != address}
            found = check_waits(rest, entries=entries, arch=code.arch)
            assert bool(found) == _walks_into_fault(rest, entries, code.arch), hex(address)
            removed += 1
            caught += bool(found)
    print(f"{codes[0].arch}: {caught} of {removed} waits matter")
    assert removed >= 10
    assert caught >= 0.5 * removed


class _LateMachine:
    """One wave on a machine on which loads are done only when a wait has said so."""

    def __init__(self, family: str) -> None:
        self._family = family
        self._queues: dict[str, list[tuple[str, frozenset[int]]]] = {
            "loads": [],
            "stores": [],
            "lds": [],
            "scalar": [],
        }

    def faults(self, instruction: Instruction) -> bool:
        """Whether the instruction comes too early; then it is carried out."""
        use = register_use(instruction, self._family)
        queue = self._queue_of(instruction)
        touched = use.reads | use.writes
        for name, entries in self._queues.items():
            for kind, loaded in entries:
                hit = use.reads if name == queue and name != "scalar" else touched
                if hit & loaded:
                    return True
                if kind == "lds store" and instruction.name in ("s_barrier", "s_barrier_signal"):
                    return True
        if _is_wait(instruction):
            self._wait(instruction)
        elif queue is not None:
            store = queue == "lds" and not use.writes
            self._queues[queue].append(("lds store" if store else "", use.writes))
            largest = 15 if queue == "lds" and self._family == "cdna" else 63
            if queue != "scalar":
                del self._queues[queue][:-largest]
        return False

    def _queue_of(self, instruction: Instruction) -> str | None:
        if instruction.encoding == "SMEM" and "_load" in instruction.name:
            return "scalar"
        if instruction.encoding == "DS":
            return "lds"
        if not is_vector_memory(instruction) or "inv" in instruction.name:
            return None
        if self._family == "cdna" or returns_value(instruction):
            return "loads"
        return "stores"

    def _wait(self, instruction: Instruction) -> None:
        """Decoded a second time, as LLVM prints it."""
        name, bits = instruction.name, instruction.fields["simm16"]
        left: dict[str, int] = {}
        if name == "s_waitcnt" and self._family == "cdna":
            left = {"loads": (bits & 15) + (bits >> 14 << 4), "lds": bits >> 8 & 15}
        elif name == "s_waitcnt":
            left = {"loads": bits >> 10, "lds": bits >> 4 & 63}
        elif name == "s_waitcnt_vscnt":
            left = {"stores": bits}
        elif name == "s_wait_kmcnt":
            left = {"scalar": bits}
        else:
            upper, lower = bits >> 8, bits & 63
            for part in name.removeprefix("s_wait_").split("_"):
                last = name.endswith(part)
                queue = {"loadcnt": "loads", "storecnt": "stores", "dscnt": "lds"}.get(part)
                if queue is not None:
                    left[queue] = lower if last else upper
        if self._family != "rdna4" and "lds" in left:
            left["scalar"] = left["lds"]
        for queue, count in left.items():
            if queue == "scalar":
                if count == 0:
                    self._queues[queue].clear()
            elif count < len(self._queues[queue]):
                del self._queues[queue][: len(self._queues[queue]) - count]


def _walks_into_fault(
    instructions: Mapping[int, Instruction], entries: list[int], arch: str, *, walks: int = 20
) -> bool:
    """Whether a wave faults that takes each branch at random."""
    chance = random.Random(0)
    order = sorted(instructions)

    def following(address: int) -> int:
        return order[bisect_left(order, address)]

    for _ in range(walks):
        machine = _LateMachine(family_of(arch))
        address = following(entries[0])
        for _ in range(3 * len(order)):
            instruction = instructions[address]
            if machine.faults(instruction):
                return True
            after = branches(instruction)
            if not after:
                break
            address = following(chance.choice(after))
    return False
