"""Steps of the instructions that move data between registers and memory other than LDS."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.atomics import OPERATIONS, operation_of
from moeproof.amd.decoding import Instruction
from moeproof.amd.operands import Step, Target, source, unknown
from moeproof.amd.scratch import check_scratch
from moeproof.amd.state import FIRST_VECTOR, Array, Waves
from moeproof.amd.transfers import Transfer, transfer_of

Addresses = Callable[[Waves], NDArray[np.uint64]]

_SCALAR_LOAD = re.compile(r"s_load_(?:dword(?:x(\d+))?|b(\d+)|([ui])(8|16))")
_NO_SCALAR_ADDRESS = {"cdna": 127, "rdna3": 124, "rdna4": 124}


def memory_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of a scalar, global, flat or scratch memory instruction; None for any other."""
    encoding = instruction.encoding
    if encoding == "SMEM":
        return _scalar_load(instruction, target)
    if encoding in ("SCRATCH", "VSCRATCH"):
        return _vector_access(instruction, target, _scratch_addresses(instruction, target))
    if encoding in ("GLOBAL", "VGLOBAL", "FLAT", "VFLAT"):
        return _vector_access(instruction, target, _global_addresses(instruction, target))
    return None


def mask_or_none(waves: Waves) -> NDArray[np.bool_] | None:
    """The active lanes, None when all of them are."""
    return None if waves.mask is True else waves.full_mask()


def data_register(instruction: Instruction, name: str, target: Target) -> int:
    """Index in `Waves.vector` of a data operand, which on CDNA may be an AccVGPR."""
    register = instruction.fields[name] - FIRST_VECTOR
    return register + target.accumulator_offset if instruction.fields.get("acc") else register


def _scalar_load(instruction: Instruction, target: Target) -> Step:
    match = _SCALAR_LOAD.fullmatch(instruction.name)
    if not match:
        raise unknown(instruction, "scalar memory instruction")
    dwords, bits, narrow, _ = match.groups()
    if narrow:
        raise unknown(instruction, "a scalar load of less than a dword")
    count = int(bits) // 32 if bits else int(dwords or 1)
    base = instruction.fields["sbase"]
    destination = instruction.fields["sdata"]
    offset, register = _scalar_offset(instruction, target)

    def step(waves: Waves) -> None:
        address = waves.u64[base][:, 0] + np.uint64(offset)
        if register is not None:
            address = address + waves.u32[register][:, 0]
        loaded = waves.gang.memory.load(address & ~np.uint64(3), None, size=4 * count)
        waves.scalar[:, destination : destination + count] = loaded.T

    return step


def _scalar_offset(instruction: Instruction, target: Target) -> tuple[int, int | None]:
    """The constant offset, modulo 2**64, and the register with a further one."""
    fields = instruction.fields
    if target.family == "cdna":
        if fields["soffset_en"]:
            register: int | None = fields["soffset"]
        else:
            register = None if fields["imm"] else fields["offset"] & 0x7F
        constant = fields["offset"] if fields["imm"] else 0
    else:
        register = None if fields["soffset"] == 124 else fields["soffset"]
        constant = fields["offset"]
    return constant % (1 << 64), register


def _global_addresses(instruction: Instruction, target: Target) -> Addresses:
    fields = instruction.fields
    offset = np.uint64(fields["offset"] % (1 << 64))
    vector = fields["addr"]
    flat = instruction.encoding in ("FLAT", "VFLAT")
    if flat or fields["saddr"] == _NO_SCALAR_ADDRESS[target.family]:
        return lambda waves: waves.pair(vector) + offset
    scalar = source(instruction, "saddr", target)
    return lambda waves: waves.u32[vector] + (waves.u64[scalar] + offset)


def _scratch_addresses(instruction: Instruction, target: Target) -> Addresses:
    """Private memory: lane by lane, where hardware would interleave the lanes' dwords."""
    fields = instruction.fields
    constant = fields["offset"]
    vector = fields["addr"] if fields["sve"] else None
    scalar = None
    if fields["saddr"] != _NO_SCALAR_ADDRESS[target.family]:
        scalar = source(instruction, "saddr", target)
    size = _access_size(instruction)
    access = "store" if "store" in instruction.name else "load"

    def addresses(waves: Waves) -> NDArray[np.uint64]:
        offset: Array = np.full((waves.waves, waves.lanes), constant, np.int64)
        if vector is not None:
            offset = offset + waves.i32[vector]
        if scalar is not None:
            offset = offset + waves.i32[scalar]
        gang = waves.gang
        check_scratch(waves, offset, size, access=access)
        lane = waves.index[:, None] * waves.lanes + np.arange(waves.lanes)
        own: NDArray[np.int64] = gang.scratch + lane * gang.scratch_size + offset
        return own.astype(np.uint64)

    return addresses


def _access_size(instruction: Instruction) -> int:
    transfer = transfer_of(instruction.name)
    if transfer is None:
        raise unknown(instruction, "memory instruction")
    return transfer.size


def _vector_access(instruction: Instruction, target: Target, addresses: Addresses) -> Step:
    transfer = transfer_of(instruction.name)
    if "_lds_" in instruction.name:
        return _load_to_lds(instruction, target, addresses)
    if transfer is not None and transfer.store:
        return _store(instruction, target, addresses, transfer)
    if transfer is not None:
        return _load(instruction, target, addresses, transfer)
    operation = operation_of(instruction.name)
    if operation is not None:
        return _atomic(instruction, target, addresses, operation)
    raise unknown(instruction, "memory instruction")


def _load(
    instruction: Instruction, target: Target, addresses: Addresses, transfer: Transfer
) -> Step:
    first = data_register(instruction, "vdst", target)
    registers = slice(first, first + transfer.dwords)
    size, plain = transfer.size, transfer.half is None and not transfer.signed

    def step(waves: Waves) -> None:
        value = waves.gang.memory.load(addresses(waves), mask_or_none(waves), size=size)
        kept = waves.vector[registers]
        if not plain:
            value = transfer.loaded(value, kept)
        np.copyto(kept, value, where=waves.mask)

    return step


def _store(
    instruction: Instruction, target: Target, addresses: Addresses, transfer: Transfer
) -> Step:
    first = data_register(instruction, "data", target)
    registers = slice(first, first + transfer.dwords)

    def step(waves: Waves) -> None:
        data = transfer.stored(waves.vector[registers])
        waves.gang.memory.store(addresses(waves), mask_or_none(waves), data, size=transfer.size)

    return step


def _load_to_lds(instruction: Instruction, target: Target, addresses: Addresses) -> Step:
    transfer = transfer_of(instruction.name)
    if transfer is None or transfer.store:
        raise unknown(instruction, "memory instruction")
    size, offset, m0 = transfer.size, instruction.fields["offset"], target.m0
    by = f"{instruction.name} at {instruction.address:#x}"

    def step(waves: Waves) -> None:
        data = waves.gang.memory.load(addresses(waves), mask_or_none(waves), size=size)
        waves.gang.lds.store_direct(
            waves.index,
            waves.scalar[:, m0],
            waves.full_mask(),
            transfer.loaded(data),
            offset=offset,
            size=max(size, 4),
            by=by,
        )

    return step


def _atomic(instruction: Instruction, target: Target, addresses: Addresses, operation: str) -> Step:
    dwords = OPERATIONS[operation].size // 4
    taken = 2 * dwords if operation.startswith("cmpswap") else dwords
    first = data_register(instruction, "data", target)
    returned = None
    if returns_value(instruction):
        returned = data_register(instruction, "vdst", target)

    def step(waves: Waves) -> None:
        data = waves.vector[first : first + taken]
        before = waves.gang.memory.atomic(operation, addresses(waves), mask_or_none(waves), data)
        if returned is not None:
            np.copyto(waves.vector[returned : returned + dwords], before, where=waves.mask)

    return step


def returns_value(instruction: Instruction) -> bool:
    """Whether a vector memory atomic writes the value before into its destination."""
    fields = instruction.fields
    if "th" in fields:
        return bool(fields["th"] & 1)  # RDNA4 ISA, section 10.4: TH_ATOMIC_RETURN
    return bool(fields.get("sc0", fields.get("glc", 0)))
