"""Steps of the DS instructions: local data share, and lanes exchanged through its crossbar."""

from __future__ import annotations

import numpy as np

from moeproof.amd.atomics import OPERATIONS, operation_of
from moeproof.amd.decoding import Instruction
from moeproof.amd.memory_steps import data_register
from moeproof.amd.operands import Step, Target, unknown
from moeproof.amd.state import FIRST_VECTOR, Waves
from moeproof.amd.transfers import Transfer, transfer_of


def lds_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of a DS instruction; None for any other."""
    if instruction.encoding != "DS":
        return None
    if instruction.fields.get("gds"):
        raise unknown(instruction, "global data share")
    transfer = transfer_of(instruction.name)
    if transfer is not None:
        make = _store if transfer.store else _load
        return make(instruction, target, transfer)
    operation = operation_of(instruction.name)
    if operation is not None:
        return _atomic(instruction, target, operation)
    raise unknown(instruction, "DS instruction")


def _offsets(instruction: Instruction, transfer: Transfer) -> tuple[int, int]:
    first, second = instruction.fields["offset0"], instruction.fields["offset1"]
    if transfer.two_addresses:
        return first, second
    return second << 8 | first, 0


def _address(instruction: Instruction) -> int:
    return instruction.fields["addr"]


def _load(instruction: Instruction, target: Target, transfer: Transfer) -> Step:
    address, offsets = _address(instruction), _offsets(instruction, transfer)
    first = data_register(instruction, "vdst", target)
    registers = slice(first, first + transfer.dwords)

    def step(waves: Waves) -> None:
        kept = waves.vector[registers]
        value = waves.gang.lds.load(
            transfer,
            waves.index,
            waves.u32[address],
            waves.full_mask(),
            offsets=offsets,
            old=kept,
        )
        np.copyto(kept, value, where=waves.mask)

    return step


def _store(instruction: Instruction, target: Target, transfer: Transfer) -> Step:
    address, offsets = _address(instruction), _offsets(instruction, transfer)
    count = transfer.dwords // 2 if transfer.two_addresses else transfer.dwords
    first = data_register(instruction, "data0", target)
    second = data_register(instruction, "data1", target)

    def step(waves: Waves) -> None:
        data = waves.vector[first : first + count]
        if transfer.two_addresses:
            data = np.concatenate((data, waves.vector[second : second + count]))
        waves.gang.lds.store(
            transfer, waves.index, waves.u32[address], waves.full_mask(), data, offsets=offsets
        )

    return step


def _atomic(instruction: Instruction, target: Target, operation: str) -> Step:
    address = _address(instruction)
    offset = instruction.fields["offset1"] << 8 | instruction.fields["offset0"]
    dwords = OPERATIONS[operation].size // 4
    sources = [data_register(instruction, "data0", target)]
    if operation.startswith("cmpswap"):
        # The unit takes the new value first. CDNA's ds_cmpst has it in data1 (CDNA3 ISA, DS_CMPST),
        # RDNA's ds_cmpstore in data0 (RDNA3 ISA, DS_CMPSTORE).
        sources.append(data_register(instruction, "data1", target))
        if "cmpst_" in instruction.name:
            sources.reverse()
    returned = instruction.fields["vdst"] - FIRST_VECTOR if "_rtn" in instruction.name else None

    def step(waves: Waves) -> None:
        data = np.concatenate([waves.vector[r : r + dwords] for r in sources])
        before = waves.gang.lds.atomic(
            operation,
            waves.index,
            waves.u32[address],
            waves.full_mask(),
            data,
            offset=offset,
        )
        if returned is not None:
            np.copyto(waves.vector[returned : returned + dwords], before, where=waves.mask)

    return step
