"""A static check of a binary: what a load brings is waited for before it is used.

A load's registers hold their old values until it is done, and the hardware does not stop who reads
them too early: the compiler must wait by counters. An emulator that finishes every load at once
cannot see a wait that is missing; this check can, on every path through the code.

Each instruction of a kind counts one counter up when it is issued and down when it is done. Vector
memory instructions of one counter are done in order, and so are LDS instructions; scalar loads are
done in any order, so only a wait for zero tells anything about them (CDNA3 ISA, section 4.4
"Manually Inserted Wait States" and "S_WAITCNT"; RDNA3 ISA, section 5.2; RDNA4 ISA, "S_WAIT_*"). A
wave stops issuing while a counter is at its largest value, so that many are under way at most;
LLVM relies on it (SIInsertWaitcnts.cpp).

Not checked here: loads that go straight to LDS, for which bytes is not known before the kernel runs
(:mod:`moeproof.amd.direct_loads` checks them then); and instructions that read registers late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from moeproof.amd.code_object import CodeObject
from moeproof.amd.control_flow import branch_target
from moeproof.amd.decoding import Instruction, UnknownInstruction, decode, family_of
from moeproof.amd.register_use import (
    ACCUMULATION,
    VECTOR,
    RegisterUse,
    is_vector_memory,
    register_use,
    returns_value,
    stores,
)

LOADS, VECTOR_STORES, LDS, SCALAR = "loads", "stores", "LDS", "scalar loads"
"""The kinds of memory instructions; those of one kind are done in order, but for SCALAR."""

_Pending = dict[int, int]
"""Address of a memory instruction -> the fewest of its kind that were issued after it."""

_PRELOADED_ENTRY = 256
_BARRIERS = ("s_barrier", "s_barrier_signal")
_CAPACITY = 0x3F
_LDS_CAPACITY_CDNA = 0xF
# RDNA4's waits: name -> kind, lowest bit and width of each counter in the immediate.
_WAITS_RDNA4 = {
    "s_wait_loadcnt": ((LOADS, 0, 6),),
    "s_wait_storecnt": ((VECTOR_STORES, 0, 6),),
    "s_wait_dscnt": ((LDS, 0, 6),),
    "s_wait_kmcnt": ((SCALAR, 0, 5),),
    "s_wait_loadcnt_dscnt": ((LDS, 0, 6), (LOADS, 8, 6)),
    "s_wait_storecnt_dscnt": ((LDS, 0, 6), (VECTOR_STORES, 8, 6)),
}
_SINGLE_WAITS_RDNA3 = {"s_waitcnt_vscnt": VECTOR_STORES}


@dataclass(frozen=True)
class MissingWait:
    """A path on which a memory instruction may not be done where it must be.

    Attributes:
        use: the instruction that comes too early.
        memory: the one that it should have waited for.
        what: what it does too early, in words.
    """

    use: Instruction
    memory: Instruction
    what: str

    def __str__(self) -> str:
        return (
            f"{self.use.name} at {self.use.address:#x} {self.what} {self.memory.name} at "
            f"{self.memory.address:#x}, which may not be done"
        )


def missing_waits(code: CodeObject, kernel_name: str) -> list[MissingWait]:
    """The waits that a kernel lacks, in order of address; empty if all are there.

    Raises:
        KeyError: no such kernel.
        UnknownInstruction: an instruction cannot be decoded, or jumps where only a run would tell.
    """
    entry = code.kernels[kernel_name].entry
    entries = [entry]
    if code.kernels[kernel_name].preload & 0x7F:
        entries.append(entry + _PRELOADED_ENTRY)
    return check_waits(reachable(code, entries), entries=entries, arch=code.arch)


def reachable(code: CodeObject, entries: Iterable[int]) -> dict[int, Instruction]:
    """The instructions that can be reached from some addresses, by address."""
    found: dict[int, Instruction] = {}
    due = list(entries)
    while due:
        address = due.pop()
        if address not in found:
            found[address] = instruction = decode(code, address)
            due.extend(branches(instruction))
    return found


def check_waits(
    instructions: Mapping[int, Instruction], *, entries: Sequence[int], arch: str
) -> list[MissingWait]:
    """As :func:`missing_waits`, on decoded instructions by address.

    An instruction that is left out is taken to do nothing: the next one follows.
    """
    analysis = _Analysis(instructions, family_of(arch))
    return analysis.run(entries)


def loads_left(instruction: Instruction, family: str) -> int | None:
    """How many vector memory loads a wait leaves under way; None if it is not for them."""
    return _waits(instruction, family).get(LOADS)


def counts_as_load(instruction: Instruction, family: str) -> bool:
    """Whether :func:`loads_left` counts an instruction: on CDNA, stores to global memory too."""
    return LOADS in _kinds(instruction, family)


class _Analysis:
    """A data-flow analysis: which memory instructions may be under way before each instruction."""

    def __init__(self, instructions: Mapping[int, Instruction], family: str) -> None:
        self._instructions = instructions
        self._family = family
        self._order = sorted(instructions)
        self._uses = {a: register_use(i, family) for a, i in instructions.items()}
        self._kinds = {a: _kinds(i, family) for a, i in instructions.items()}
        self._waits = {a: _waits(i, family) for a, i in instructions.items()}

    def run(self, entries: Sequence[int]) -> list[MissingWait]:
        before: dict[int, _Pending] = {}
        due = []
        for entry in entries:
            first = self._at_or_after(entry)
            before[first] = {}
            due.append(first)
        while due:
            address = due.pop()
            after = self._after(address, before[address])
            for following in map(self._at_or_after, branches(self._instructions[address])):
                if following not in before:
                    before[following] = dict(after)
                    due.append(following)
                elif _join(before[following], after):
                    due.append(following)
        return [
            found
            for address in self._order
            if address in before
            for found in self._missing(address, before[address])
        ]

    def _at_or_after(self, address: int) -> int:
        """The next instruction that is there: some may have been left out."""
        if address in self._instructions:
            return address
        return next(other for other in self._order if other > address)

    def _after(self, address: int, pending: _Pending) -> _Pending:
        """What may be under way after an instruction."""
        waits = self._waits[address]
        if waits:
            return {
                memory: age
                for memory, age in pending.items()
                if not self._is_done(memory, age, waits)
            }
        kinds = self._kinds[address]
        if not kinds:
            return pending
        aged = {
            memory: age + 1 if self._kinds[memory] == kinds else age
            for memory, age in pending.items()
            if self._kinds[memory] != kinds or kinds == (SCALAR,) or age + 1 < self._capacity(kinds)
        }
        if len(kinds) > 1 or self._uses[address].writes or kinds == (LDS,):
            aged[address] = 0
        return aged

    def _capacity(self, kinds: tuple[str, ...]) -> int:
        return _LDS_CAPACITY_CDNA if kinds == (LDS,) and self._family == "cdna" else _CAPACITY

    def _is_done(self, memory: int, age: int, waits: Mapping[str, int]) -> bool:
        """Whether a wait tells that an instruction is done.

        One that counts two counters, and a scalar load, may be done before earlier ones.
        """
        kinds = self._kinds[memory]
        if len(kinds) > 1:
            return all(waits.get(_counter(kind, self._family)) == 0 for kind in kinds)
        limit = waits.get(_counter(kinds[0], self._family))
        if limit is None:
            return False
        return limit == 0 if kinds[0] == SCALAR else age >= limit

    def _missing(self, address: int, pending: _Pending) -> list[MissingWait]:
        instruction, use = self._instructions[address], self._uses[address]
        found = []
        for memory in sorted(pending):
            what = self._conflict(instruction, use, memory)
            if what is not None:
                found.append(MissingWait(instruction, self._instructions[memory], what))
        return found

    def _conflict(self, instruction: Instruction, use: RegisterUse, memory: int) -> str | None:
        loaded = self._uses[memory].writes
        if use.reads & loaded:
            return f"reads {_names(use.reads & loaded)} of"
        in_order = self._kinds[memory] == self._kinds[instruction.address] != (SCALAR,)
        if use.writes & loaded and not in_order:
            return f"overwrites {_names(use.writes & loaded)} of"
        if instruction.name in _BARRIERS and self._kinds[memory] == (LDS,) and not loaded:
            return "lets others go on before"
        return None


def _join(into: _Pending, other: _Pending) -> bool:
    """Take up what may be under way on another path; whether anything changed."""
    changed = False
    for memory, age in other.items():
        if memory not in into or into[memory] > age:
            into[memory] = age
            changed = True
    return changed


def _kinds(instruction: Instruction, family: str) -> tuple[str, ...]:
    """The kinds of memory instruction that it is; empty if it is none."""
    encoding = instruction.encoding
    if encoding.startswith("SMEM"):
        return (SCALAR,) if "_load" in instruction.name else ()
    if encoding == "DS":
        return (LDS,)
    if not is_vector_memory(instruction) or not _touches_memory(instruction):
        return ()
    if family != "cdna" and not returns_value(instruction):
        return (VECTOR_STORES,)
    return (LOADS, LDS) if encoding in ("FLAT", "VFLAT") else (LOADS,)


def _touches_memory(instruction: Instruction) -> bool:
    """Not an instruction for caches, such as ``buffer_inv``."""
    name = instruction.name
    return stores(instruction) or "_load" in name or "_atomic" in name


def _counter(kind: str, family: str) -> str:
    """The counter of a kind. Before RDNA4, scalar loads share that of LDS."""
    return LDS if kind == SCALAR and family != "rdna4" else kind


def _waits(instruction: Instruction, family: str) -> dict[str, int]:
    """Counter -> how many may still be under way when the wait is over; empty if it is no wait."""
    name = instruction.name
    if not name.startswith("s_wait"):
        return {}
    bits = instruction.fields["simm16"]
    if family == "rdna4":
        return {
            kind: bits >> low & (1 << width) - 1 for kind, low, width in _WAITS_RDNA4.get(name, ())
        }
    if name in _SINGLE_WAITS_RDNA3:
        return {_SINGLE_WAITS_RDNA3[name]: bits}
    if name != "s_waitcnt":
        return {}
    if family == "cdna":
        return {LOADS: bits & 0xF | bits >> 10 & 0x30, LDS: bits >> 8 & 0xF}
    return {LOADS: bits >> 10 & 0x3F, LDS: bits >> 4 & 0x3F}


def branches(instruction: Instruction) -> tuple[int, ...]:
    """Where control may go from an instruction."""
    name, following = instruction.name, instruction.address + instruction.size
    if name == "s_endpgm":
        return ()
    if name == "s_branch":
        return (branch_target(instruction),)
    if name.startswith("s_cbranch"):
        return following, branch_target(instruction)
    if name.startswith(("s_setpc", "s_swappc", "s_call")):
        raise UnknownInstruction(f"{instruction}: where it goes is not known before it runs")
    return (following,)


def _names(registers: Iterable[int]) -> str:
    return ", ".join(_name(register) for register in sorted(registers))


def _name(register: int) -> str:
    if register >= ACCUMULATION:
        return f"a{register - ACCUMULATION}"
    return f"v{register - VECTOR}" if register >= VECTOR else f"s{register}"
