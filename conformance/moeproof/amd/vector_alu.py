"""Steps of the vector ALU's instructions that compute each lane from its own operands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from moeproof.amd import integer_arithmetic as integers
from moeproof.amd.decoding import Instruction
from moeproof.amd.operands import (
    Fetch,
    Step,
    Store,
    Target,
    bits_of,
    destination,
    fetch,
    modified,
    source,
    store,
    store_zero_extended,
    unknown,
    upper_half,
)
from moeproof.amd.state import FIRST_VECTOR, HIGH_HALF, LITERAL, Array, Waves
from moeproof.amd.vector_operations import OPERATIONS, Operation, reversed_operands

_OUTPUT_FACTORS = {1: 2.0, 2: 4.0, 3: 0.5}
_SATURATING: dict[str, Callable[..., Any]] = {
    "v_add_u32": integers.add_saturated_unsigned,
    "v_add_nc_u32": integers.add_saturated_unsigned,
    "v_add_u16": integers.add_saturated_unsigned,
    "v_sub_u32": integers.subtract_saturated_unsigned,
    "v_sub_nc_u32": integers.subtract_saturated_unsigned,
    "v_sub_u16": integers.subtract_saturated_unsigned,
    "v_subrev_u32": reversed_operands(integers.subtract_saturated_unsigned),
    "v_subrev_nc_u32": reversed_operands(integers.subtract_saturated_unsigned),
    "v_subrev_u16": reversed_operands(integers.subtract_saturated_unsigned),
}
# On CDNA these keep the other half of the register, the other 16-bit operations clear it (LLVM,
# SIISelLowering.cpp: zeroesHigh16BitsOfDest).
_KEEP_OTHER_HALF_CDNA = ("v_fma_f16", "v_mad_u16", "v_mad_i16", "v_div_fixup_f16", "v_bitop3_b16")
_TERNARY = {"v_bitop3_b32": "u32", "v_bitop3_b16": "u16"}
_MODIFIERS = ("neg", "abs", "clmp", "omod", "src0_neg", "src0_abs", "src1_neg", "src1_abs")
_WORD, _DWORD = 4, 6
_DISABLED_LANES_KEEP = 2


def operation_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of an instruction that `OPERATIONS` knows, or of v_bitop3; None for any other."""
    if instruction.name in _TERNARY:
        compute, put = computation(instruction, target, _ternary(instruction))
        return lambda waves: put(waves, compute(waves))
    operation = OPERATIONS.get(instruction.name)
    if operation is None:
        return None
    if (
        isinstance(operation.function, np.ufunc)
        and set(operation.sources) == {operation.result}
        and bits_of(operation.result) == 32
        and not _has_modifiers(instruction)
    ):
        return _direct(operation.function, operation.result, instruction, target)
    compute, put = computation(instruction, target, operation)
    return lambda waves: put(waves, compute(waves))


def _ternary(instruction: Instruction) -> Operation:
    """v_bitop3: its truth table stands in the modifiers' bits (CDNA4 ISA, V_BITOP3_B32)."""
    fields, kind = instruction.fields, _TERNARY[instruction.name]
    table = fields["omod"] << 6 | fields["abs"] << 3 | fields["neg"]
    return Operation(partial(integers.ternary_logic, table=table), kind, (kind, kind, kind))


def computation(
    instruction: Instruction, target: Target, operation: Operation
) -> tuple[Fetch, Store]:
    """What the operation gives for some waves, and how that is stored."""
    fields, kind = instruction.fields, operation.result
    function = operation.function
    if fields.get("clmp"):
        function = _clamped(instruction, operation)
    if fields.get("omod") and kind[0] == "f":
        function = _scaled(function, _OUTPUT_FACTORS[fields["omod"]])
    put = result_store(instruction, target, kind)
    if not operation.accumulates:
        sources = source_fetches(instruction, target, operation.sources)
    else:
        sources = source_fetches(instruction, target, operation.sources[:2])
        sources.append(fetch(kind, destination(instruction, "vdst", target, bits=bits_of(kind))))
    return _applied(function, sources), put


def _has_modifiers(instruction: Instruction) -> bool:
    fields = instruction.fields
    return instruction.encoding.endswith("_SDWA") or any(fields.get(n) for n in _MODIFIERS)


def _direct(function: np.ufunc, kind: str, instruction: Instruction, target: Target) -> Step:
    """Straight into the destination register: the most frequent steps."""
    views = attrgetter(kind)
    out = destination(instruction, "vdst", target)
    operands = [source(instruction, f"src{i}", target) for i in range(function.nin)]
    if function.nin == 1:
        (only,) = operands

        def unary(waves: Waves) -> None:
            of = views(waves)
            function(of[only], out=of[out], where=waves.mask)

        return unary
    first, second = operands

    def binary(waves: Waves) -> None:
        of = views(waves)
        function(of[first], of[second], out=of[out], where=waves.mask)

    return binary


def _applied(function: Callable[..., Any], sources: list[Fetch]) -> Fetch:
    if len(sources) == 1:
        (only,) = sources
        return lambda waves: function(only(waves))
    if len(sources) == 2:
        first, second = sources
        return lambda waves: function(first(waves), second(waves))
    first, second, third = sources
    return lambda waves: function(first(waves), second(waves), third(waves))


def source_fetches(instruction: Instruction, target: Target, kinds: tuple[str, ...]) -> list[Fetch]:
    """Fetches of src0, src1, ... as these types, with all that the format does to them."""
    names = _source_names(instruction, len(kinds))
    return [
        _source_fetch(instruction, target, index, name, kind)
        for index, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]


def _source_names(instruction: Instruction, count: int) -> list[str]:
    if "mk_" in instruction.name:  # fmamk: src0 * literal + src1
        return ["src0", "literal", "src1"]
    if "ak_" in instruction.name:  # fmaak: src0 * src1 + literal
        return ["src0", "src1", "literal"]
    return ["src0", "src1", "src2"][:count]


def _source_fetch(
    instruction: Instruction, target: Target, index: int, name: str, kind: str
) -> Fetch:
    fields = instruction.fields
    if name == "literal":
        return fetch(kind, _literal(instruction))
    if instruction.encoding.endswith(("_SDWA", "_SDWA_SDST")):
        plain = _selected(instruction, target, index, kind)
    else:
        operand = source(instruction, name, target, bits=bits_of(kind))
        if bits_of(kind) == 16 and fields.get("opsel", 0) >> index & 1:
            operand = upper_half(operand)
        plain = fetch(kind, operand)
    if instruction.name in _TERNARY:
        return plain
    negate = fields.get("neg", 0) >> index & 1 | fields.get(f"src{index}_neg", 0)
    absolute = fields.get("abs", 0) >> index & 1 | fields.get(f"src{index}_abs", 0)
    if (negate or absolute) and kind[0] != "f":
        raise unknown(instruction, "a sign modifier on an integer")
    return modified(plain, negate=bool(negate), absolute=bool(absolute))


def _literal(instruction: Instruction) -> int:
    if instruction.literal is None:
        raise unknown(instruction, "no literal follows")
    return LITERAL | instruction.literal


def _selected(instruction: Instruction, target: Target, index: int, kind: str) -> Fetch:
    """SDWA: a byte, a word or all of a register (CDNA3 ISA, section 6.4 "SDWA")."""
    fields = instruction.fields
    operand = source(instruction, f"src{index}", target)
    selection, signed = fields[f"src{index}_sel"], fields[f"src{index}_sext"]
    if selection == _DWORD:
        return fetch(kind, operand)
    if selection >= _WORD:
        shift, width = 16 * (selection - _WORD), 16
    else:
        shift, width = 8 * selection, 8
    up, down = 32 - width - shift, 32 - width

    def extract(waves: Waves) -> Array:
        whole = waves.i32[operand] if signed else waves.u32[operand]
        part = np.ascontiguousarray((whole << up) >> down).view(np.uint32)
        if bits_of(kind) == 16:
            return part.astype(np.uint16).view(np.dtype(_numpy_name(kind)))
        return part.view(np.dtype(_numpy_name(kind)))

    return extract


def _numpy_name(kind: str) -> str:
    return f"{kind[0]}{bits_of(kind) // 8}"


def result_store(instruction: Instruction, target: Target, kind: str) -> Store:
    """Stores into vdst what the instruction computed, as the format and the architecture do."""
    fields = instruction.fields
    operand = destination(instruction, "vdst", target, bits=bits_of(kind))
    if operand < FIRST_VECTOR:
        return _scalar_store(kind, operand)
    if "dst_sel" in fields and fields["dst_sel"] != _DWORD:
        return _inserted(instruction, operand, kind)
    if bits_of(kind) != 16:
        return store(kind, operand)
    if fields.get("opsel", 0) >> 3 & 1:
        return store(kind, operand + HIGH_HALF)
    if target.family == "cdna" and instruction.name not in _KEEP_OTHER_HALF_CDNA:
        return store_zero_extended(kind, operand)
    return store(kind, operand)


def _scalar_store(kind: str, operand: int) -> Store:
    """RDNA4's v_s_* operations write a scalar register."""
    views = attrgetter(kind)

    def write(waves: Waves, value: Any) -> None:
        views(waves)[operand][...] = value

    return write


def _inserted(instruction: Instruction, operand: int, kind: str) -> Store:
    """SDWA: into a byte or a word of the register."""
    fields = instruction.fields
    selection, unused = fields["dst_sel"], fields["dst_unused"]
    if selection >= _WORD:
        shift, mask = np.uint32(16 * (selection - _WORD)), np.uint32(0xFFFF)
    else:
        shift, mask = np.uint32(8 * selection), np.uint32(0xFF)
    if unused == 1:
        raise unknown(instruction, "a sign-extended SDWA result")
    keep = np.uint32(~(int(mask) << int(shift)) & 0xFFFFFFFF)

    def write(waves: Waves, value: Any) -> None:
        raw = np.ascontiguousarray(value).view(np.dtype(f"u{bits_of(kind) // 8}"))
        bits = (raw.astype(np.uint32) & mask) << shift
        if unused == _DISABLED_LANES_KEEP:
            bits = bits | (waves.u32[operand] & keep)
        np.copyto(waves.u32[operand], bits, where=waves.mask)

    return write


def _clamped(instruction: Instruction, operation: Operation) -> Callable[..., Any]:
    if operation.result[0] == "f":
        function = operation.function

        def to_unit(*values: Any) -> Any:
            result = function(*values)
            return np.where(np.isnan(result), 0, np.clip(result, 0, 1)).astype(result.dtype)

        return to_unit
    if instruction.name not in _SATURATING:
        raise unknown(instruction, "a saturated result")
    return _SATURATING[instruction.name]


def _scaled(function: Callable[..., Any], factor: float) -> Callable[..., Any]:
    def scaled(*values: Any) -> Any:
        result = function(*values)
        return result * result.dtype.type(factor)

    return scaled
