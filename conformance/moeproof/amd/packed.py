"""Steps of the packed instructions: two results a lane (VOP3P), mixed precision, dot products."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from moeproof.amd import float_arithmetic as floats
from moeproof.amd import integer_arithmetic as integers
from moeproof.amd.decoding import Instruction
from moeproof.amd.formats import bf16_to_f32
from moeproof.amd.operands import (
    Fetch,
    Step,
    Target,
    bits_of,
    destination,
    fetch,
    modified,
    source,
    store,
    unknown,
    upper_half,
)
from moeproof.amd.state import FIRST_CONSTANT, FIRST_VECTOR, HIGH_HALF, LITERAL, Array, Waves
from moeproof.amd.vector_operations import reversed_operands

Function = Callable[..., Any]

# Name -> function, type, number of sources.
_PACKED: dict[str, tuple[Function, str, int]] = {
    "v_pk_add_f16": (np.add, "f16", 2),
    "v_pk_mul_f16": (np.multiply, "f16", 2),
    "v_pk_fma_f16": (floats.fma16, "f16", 3),
    "v_pk_min_f16": (floats.minimum, "f16", 2),
    "v_pk_max_f16": (floats.maximum, "f16", 2),
    "v_pk_min_num_f16": (floats.minimum, "f16", 2),
    "v_pk_max_num_f16": (floats.maximum, "f16", 2),
    "v_pk_minimum_f16": (floats.ieee_minimum, "f16", 2),
    "v_pk_maximum_f16": (floats.ieee_maximum, "f16", 2),
    "v_pk_add_f32": (np.add, "f32", 2),
    "v_pk_mul_f32": (np.multiply, "f32", 2),
    "v_pk_fma_f32": (floats.fma32, "f32", 3),
}
for _kind in ("u16", "i16"):
    _PACKED |= {
        f"v_pk_add_{_kind}": (np.add, _kind, 2),
        f"v_pk_sub_{_kind}": (np.subtract, _kind, 2),
        f"v_pk_min_{_kind}": (np.minimum, _kind, 2),
        f"v_pk_max_{_kind}": (np.maximum, _kind, 2),
        f"v_pk_mad_{_kind}": (lambda a, b, c: a * b + c, _kind, 3),
    }
_PACKED |= {
    "v_pk_mul_lo_u16": (np.multiply, "u16", 2),
    "v_pk_lshlrev_b16": (reversed_operands(integers.shift_left), "u16", 2),
    "v_pk_lshrrev_b16": (reversed_operands(integers.shift_right), "u16", 2),
    "v_pk_ashrrev_i16": (reversed_operands(integers.shift_right), "i16", 2),
}
_SATURATING: dict[str, Function] = {
    "v_pk_add_u16": integers.add_saturated_unsigned,
    "v_pk_sub_u16": integers.subtract_saturated_unsigned,
}
_MIXED = {
    # CDNA names them as unfused; since gfx906 they are fused (LLVM, FeatureFmaMixInsts).
    "v_mad_mix_f32": "f32",
    "v_mad_mixlo_f16": "f16",
    "v_mad_mixhi_f16": "f16",
    "v_fma_mix_f32": "f32",
    "v_fma_mixlo_f16": "f16",
    "v_fma_mixhi_f16": "f16",
}


def packed_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of an instruction of this module; None for any other."""
    name = instruction.name
    if name in _PACKED:
        function, kind, count = _PACKED[name]
        return _packed(instruction, target, function, kind, count)
    if name == "v_pk_mov_b32":
        return _packed_move(instruction, target)
    if name in _MIXED:
        return _mixed(instruction, target, _MIXED[name])
    if name in _DOTS:
        return _dot(instruction, target, *_DOTS[name])
    return None


def _selectors(instruction: Instruction, index: int) -> tuple[int, int]:
    """Which half the lower and the upper result take of source `index`."""
    fields = instruction.fields
    high = fields["opsel_hi2"] if index == 2 else fields["opsel_hi"] >> index & 1
    return fields["opsel"] >> index & 1, high


def _part(operand: int, kind: str, selector: int) -> int:
    """One of two halves of a register, or one of two registers."""
    if not selector:
        return operand
    if bits_of(kind) == 16:
        return upper_half(operand)
    if operand >= LITERAL or FIRST_CONSTANT <= operand < FIRST_VECTOR:
        return operand
    return operand + 1


def _packed(
    instruction: Instruction, target: Target, function: Function, kind: str, count: int
) -> Step:
    lower: list[Fetch] = []
    upper: list[Fetch] = []
    fields = instruction.fields
    for index in range(count):
        operand = source(instruction, f"src{index}", target)
        for part, fetches, negated in zip(
            _selectors(instruction, index),
            (lower, upper),
            (fields["neg"], fields["neg_hi"]),
            strict=True,
        ):
            negate = bool(negated >> index & 1)
            if negate and kind[0] != "f":
                raise unknown(instruction, "a sign modifier on an integer")
            plain = fetch(kind, _part(operand, kind, part))
            fetches.append(modified(plain, negate=negate, absolute=False))
    if fields.get("clmp") and kind[0] != "f":
        if instruction.name not in _SATURATING:
            raise unknown(instruction, "a saturated result")
        function = _SATURATING[instruction.name]
    elif fields.get("clmp"):
        unclamped = function
        function = lambda *values: np.clip(unclamped(*values), 0, 1)  # noqa: E731
    result = destination(instruction, "vdst", target)
    step_width = HIGH_HALF if bits_of(kind) == 16 else 1
    put_lower, put_upper = store(kind, result), store(kind, result + step_width)

    def step(waves: Waves) -> None:
        # Both are computed before either is written: the result may be a source.
        low = function(*(fetch(waves) for fetch in lower))
        high = function(*(fetch(waves) for fetch in upper))
        put_lower(waves, low)
        put_upper(waves, high)

    return step


def _packed_move(instruction: Instruction, target: Target) -> Step:
    """v_pk_mov_b32: a register of each source."""
    first = source(instruction, "src0", target)
    second = source(instruction, "src1", target)
    low = fetch("u32", _part(first, "u32", instruction.fields["opsel"] & 1))
    high = fetch("u32", _part(second, "u32", instruction.fields["opsel"] >> 1 & 1))
    result = destination(instruction, "vdst", target)
    put_lower, put_upper = store("u32", result), store("u32", result + 1)

    def step(waves: Waves) -> None:
        one, two = np.array(low(waves)), np.array(high(waves))
        put_lower(waves, one)
        put_upper(waves, two)

    return step


def _mixed(instruction: Instruction, target: Target, kind: str) -> Step:
    """v_fma_mix: a fused multiply-add in float32 of float32 and float16 sources."""
    fields = instruction.fields
    fetches: list[Fetch] = []
    for index in range(3):
        operand = source(instruction, f"src{index}", target)
        half, narrow = _selectors(instruction, index)
        if narrow:
            plain = fetch("f16", upper_half(operand) if half else operand)
        else:
            plain = fetch("f32", operand)
        # neg_hi is the absolute value here: RDNA3 ISA, V_FMA_MIX_F32.
        fetches.append(
            modified(
                plain,
                negate=bool(fields["neg"] >> index & 1),
                absolute=bool(fields["neg_hi"] >> index & 1),
            )
        )
    if fields.get("clmp"):
        raise unknown(instruction, "a clamped result")
    result = destination(instruction, "vdst", target)
    if "mixhi" in instruction.name:
        result += HIGH_HALF
    put = store(kind, result)
    dtype = np.float16 if kind == "f16" else np.float32

    def step(waves: Waves) -> None:
        values = (np.asarray(fetch(waves), np.float32) for fetch in fetches)
        put(waves, floats.fma32(*values).astype(dtype))

    return step


def _halves_f16(a: Array) -> Array:
    return _elements(a, np.float16).astype(np.float64)


def _halves_bf16(a: Array) -> Array:
    return bf16_to_f32(_elements(a, np.uint16)).astype(np.float64)


def _halves_signed(a: Array) -> Array:
    return _elements(a, np.int16).astype(np.int64)


def _bytes_unsigned(a: Array) -> Array:
    return _elements(a, np.uint8).astype(np.int64)


def _bytes_signed(a: Array) -> Array:
    return _elements(a, np.int8).astype(np.int64)


def _elements(a: Array, dtype: type[np.generic]) -> Array:
    """uint32 `(...)` -> `(..., 4 / itemsize)`."""
    return np.ascontiguousarray(np.asarray(a, np.uint32)[..., None]).view(dtype)


# Name -> how a register is taken apart, type of the sum, whether vdst is the third source.
_DOTS: dict[str, tuple[Function, str, bool]] = {
    "v_dot2_f32_f16": (_halves_f16, "f32", False),
    "v_dot2c_f32_f16": (_halves_f16, "f32", True),
    "v_dot2acc_f32_f16": (_halves_f16, "f32", True),
    "v_dot2_f32_bf16": (_halves_bf16, "f32", False),
    "v_dot2c_f32_bf16": (_halves_bf16, "f32", True),
    "v_dot2acc_f32_bf16": (_halves_bf16, "f32", True),
    "v_dot2_i32_i16": (_halves_signed, "i32", False),
    "v_dot4_i32_i8": (_bytes_signed, "i32", False),
    "v_dot4c_i32_i8": (_bytes_signed, "i32", True),
    "v_dot4_u32_u8": (_bytes_unsigned, "u32", False),
}


def _dot(
    instruction: Instruction, target: Target, take_apart: Function, kind: str, accumulates: bool
) -> Step:
    """A sum of products of the parts of two registers, in float64 or int64, rounded once."""
    fields = instruction.fields
    if fields.get("neg") or fields.get("neg_hi") or fields.get("clmp") or fields.get("opsel"):
        raise unknown(instruction, "a modifier on a dot product")
    first = fetch("u32", source(instruction, "src0", target))
    second = fetch("u32", source(instruction, "src1", target))
    result = destination(instruction, "vdst", target)
    addend = fetch(kind, result if accumulates else source(instruction, "src2", target))
    put = store(kind, result)
    wide = np.float64 if kind[0] == "f" else np.int64
    views = attrgetter(kind)

    def step(waves: Waves) -> None:
        products = take_apart(first(waves)) * take_apart(second(waves))
        total = products.sum(axis=-1) + np.asarray(addend(waves)).astype(wide)
        put(waves, total.astype(views(waves)[result].dtype))

    return step
