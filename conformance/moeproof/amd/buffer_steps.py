"""Steps of the buffer instructions: memory behind a resource descriptor that bounds it.

Raw buffers (stride 0, no swizzle), which is what Triton makes: CDNA3 ISA, section 9.1.5 "Buffer
addressing" and RDNA3 ISA, section 9.4; and gfx90a's private segment buffer, see `scratch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.atomics import OPERATIONS, operation_of
from moeproof.amd.decoding import Instruction, UnknownInstruction
from moeproof.amd.memory_steps import data_register, returns_value
from moeproof.amd.operands import Step, Target, source, unknown
from moeproof.amd.scratch import FORMAT, STRIDE_AND_SWIZZLE, swizzled_addresses
from moeproof.amd.state import Waves
from moeproof.amd.transfers import Transfer, transfer_of

_BASE_BITS = np.uint64((1 << 48) - 1)
_STRIDE_AND_SWIZZLE = np.uint64(0xFFFF << 48)


@dataclass(frozen=True)
class Lanes:
    """Where the lanes of some waves point: addresses, offsets into the buffer, and the limit.

    addresses: uint64 `(waves, lanes)`. offsets: int64 `(waves, lanes)`. limit: int64 `(waves, 1)`;
    a dword is inside where its offset + 4 is at most the limit. active: bool `(waves, lanes)`.
    """

    addresses: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    limit: NDArray[np.int64]
    active: NDArray[np.bool_]

    def inside(self, start: int, size: int) -> NDArray[np.bool_]:
        """The active lanes whose bytes from `start` on lie within the buffer."""
        return self.active & (self.offsets + (start + size) <= self.limit)


def buffer_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of a buffer instruction; None for any other."""
    if instruction.encoding not in ("MUBUF", "VBUFFER"):
        return None
    transfer = transfer_of(instruction.name)
    if transfer is not None:
        lanes = _lanes(
            instruction, target, transfer.size, access="store" if transfer.store else "load"
        )
        if instruction.fields.get("lds"):
            return _load_to_lds(instruction, target, lanes, transfer)
        make = _store if transfer.store else _load
        return make(instruction, target, lanes, transfer)
    operation = operation_of(instruction.name)
    if operation is not None:
        lanes = _lanes(instruction, target, OPERATIONS[operation].size, access="atomic")
        return _atomic(instruction, target, lanes, operation)
    raise unknown(instruction, "buffer instruction")


def _lanes(
    instruction: Instruction, target: Target, size: int, *, access: str
) -> Callable[[Waves], Lanes]:
    fields = instruction.fields
    if fields["idxen"]:
        raise unknown(instruction, "an indexed buffer")
    resource, constant = fields["srsrc"], fields["offset"]
    vector = fields["addr"] if fields["offen"] else None
    scalar = source(instruction, "soffset", target)

    def of(waves: Waves) -> Lanes:
        descriptor = waves.u64[resource]
        beyond = waves.u32[scalar].astype(np.int64)
        offsets = np.full((waves.waves, waves.lanes), constant, np.int64)
        if vector is not None:
            offsets += waves.u32[vector]
        start = (descriptor & _BASE_BITS) + beyond.astype(np.uint64)
        if (descriptor & _STRIDE_AND_SWIZZLE).any():
            if target.arch != "gfx90a" or not _is_scratch(waves, resource):
                raise UnknownInstruction(f"{instruction}: a buffer with a stride")
            return Lanes(
                addresses=swizzled_addresses(waves, start, offsets, size, access=access),
                offsets=np.zeros_like(offsets),
                limit=np.full((waves.waves, 1), size, np.int64),
                active=waves.full_mask(),
            )
        return Lanes(
            addresses=start + offsets.astype(np.uint64),
            offsets=offsets,
            limit=waves.u32[resource + 2].astype(np.int64) - beyond,
            active=waves.full_mask(),
        )

    return of


def _is_scratch(waves: Waves, resource: int) -> bool:
    """Whether the descriptor is that of the private segment buffer, in all waves."""
    swizzled = waves.u32[resource + 1] & np.uint32(0xFFFF0000) == np.uint32(STRIDE_AND_SWIZZLE)
    return bool((swizzled & (waves.u32[resource + 3] == np.uint32(FORMAT))).all())


def _components(size: int) -> list[tuple[int, int]]:
    """Start and size of each part that is checked against the bounds by itself."""
    return [(start, min(size, 4)) for start in range(0, size, 4)]


def _loaded(waves: Waves, lanes: Lanes, size: int) -> NDArray[np.uint32]:
    """`size` bytes a lane as dwords; what lies outside of the buffer reads as zero."""
    whole = lanes.inside(0, size)
    value = waves.gang.memory.load(lanes.addresses, whole, size=size)
    if size > 4:
        torn = lanes.inside(0, 4) & ~whole
        if torn.any():
            for start, part in _components(size):
                addresses = lanes.addresses + np.uint64(start)
                some = torn & lanes.inside(start, part)
                value[start // 4] += waves.gang.memory.load(addresses, some, size=part)[0]
    return value


def _load(
    instruction: Instruction,
    target: Target,
    lanes: Callable[[Waves], Lanes],
    transfer: Transfer,
) -> Step:
    first = data_register(instruction, "vdata", target)
    registers = slice(first, first + transfer.dwords)

    def step(waves: Waves) -> None:
        kept = waves.vector[registers]
        value = transfer.loaded(_loaded(waves, lanes(waves), transfer.size), kept)
        np.copyto(kept, value, where=waves.mask)

    return step


def _load_to_lds(
    instruction: Instruction,
    target: Target,
    lanes: Callable[[Waves], Lanes],
    transfer: Transfer,
) -> Step:
    offset, m0 = instruction.fields["offset"], target.m0
    size = max(transfer.size, 4)
    by = f"{instruction.name} at {instruction.address:#x}"

    def step(waves: Waves) -> None:
        data = transfer.loaded(_loaded(waves, lanes(waves), transfer.size))
        waves.gang.lds.store_direct(
            waves.index,
            waves.scalar[:, m0],
            waves.full_mask(),
            data,
            offset=offset,
            size=size,
            by=by,
        )

    return step


def _store(
    instruction: Instruction,
    target: Target,
    lanes: Callable[[Waves], Lanes],
    transfer: Transfer,
) -> Step:
    first = data_register(instruction, "vdata", target)
    registers = slice(first, first + transfer.dwords)
    size = transfer.size

    def step(waves: Waves) -> None:
        data = transfer.stored(waves.vector[registers])
        where = lanes(waves)
        whole = where.inside(0, size)
        memory = waves.gang.memory
        memory.store(where.addresses, whole, data, size=size)
        torn = where.inside(0, min(size, 4)) & ~whole
        if torn.any():
            for start, part in _components(size):
                some = torn & where.inside(start, part)
                addresses = where.addresses + np.uint64(start)
                memory.store(addresses, some, data[start // 4 :][:1], size=part)

    return step


def _atomic(
    instruction: Instruction,
    target: Target,
    lanes: Callable[[Waves], Lanes],
    operation: str,
) -> Step:
    size = OPERATIONS[operation].size
    dwords = size // 4
    taken = 2 * dwords if operation.startswith("cmpswap") else dwords
    first = data_register(instruction, "vdata", target)
    returns = returns_value(instruction)

    def step(waves: Waves) -> None:
        where = lanes(waves)
        data = waves.vector[first : first + taken]
        before = waves.gang.memory.atomic(operation, where.addresses, where.inside(0, size), data)
        if returns:
            np.copyto(waves.vector[first : first + dwords], before, where=waves.mask)

    return step
