"""Steps of the conversions to and from floats of 4 and 8 bits, and of what governs them.

CDNA3 and CDNA4 ISA manuals, "Instructions": V_CVT_PK_FP8_F32, V_CVT_PK_F32_FP8 and
V_CVT_SCALEF32_*; the same names with BF8, and with FP4 for the latter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from moeproof.amd import formats
from moeproof.amd.decoding import Instruction
from moeproof.amd.formats import NarrowFloat
from moeproof.amd.operands import Fetch, Step, Target, destination, store, unknown
from moeproof.amd.state import HIGH_HALF, Array, Waves
from moeproof.amd.vector_alu import source_fetches

_NARROW = re.compile(r"v_cvt_(?P<scale>scalef32_)?pk_(?P<to>fp8|bf8|fp4)_(?P<source>f32|f16|bf16)")
_WIDEN = re.compile(r"v_cvt_(?P<scale>scalef32_)?pk_(?P<to>f32|f16|bf16)_(?P<source>fp8|bf8|fp4)")
_ONE = re.compile(r"v_cvt_f32_(?P<source>fp8|bf8)")

_MODE_REGISTER = 1
_FP16_OVERFLOW = 23  # bit of MODE


def conversion_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of an instruction of this module; None for any other."""
    name = instruction.name
    if name == "s_setreg_imm32_b32":
        return _set_mode(instruction)
    if match := _NARROW.fullmatch(name):
        return _narrowed(instruction, target, match["to"], match["source"], bool(match["scale"]))
    if match := _WIDEN.fullmatch(name):
        return _widened(instruction, target, match["to"], match["source"], bool(match["scale"]))
    if match := _ONE.fullmatch(name):
        return _one_widened(instruction, target, match["source"])
    return None


def _set_mode(instruction: Instruction) -> Step:
    """Of all hardware registers and their bits, FP16_OVFL alone: compilers set it for fp8."""
    where = instruction.fields["simm16"]
    register, first, size = where & 63, where >> 6 & 31, (where >> 11 & 31) + 1
    if (register, first, size) != (_MODE_REGISTER, _FP16_OVERFLOW, 1):
        raise unknown(instruction, f"hardware register {register}, {size} bits from {first} on")
    if instruction.literal is None:
        raise unknown(instruction, "no literal follows")
    value = bool(instruction.literal & 1)

    def step(waves: Waves) -> None:
        waves.saturates[...] = value

    return step


def _format(kind: str, target: Target) -> NarrowFloat:
    return formats.E2M1 if kind == "fp4" else formats.eight_bit_format(kind, target.arch)


def _narrowed(
    instruction: Instruction, target: Target, kind: str, source: str, scaled: bool
) -> Step:
    """Two values to one half (8 bits each) or one byte (4 bits each) of vdst; the rest is kept."""
    narrow = _format(kind, target)
    count = 2 if source == "f32" else 1
    values = source_fetches(
        instruction, target, ("f32",) * count if source == "f32" else ("u32",) * count
    )
    scale = _scale(instruction, target, count) if scaled else None
    result = destination(instruction, "vdst", target)
    opsel = instruction.fields.get("opsel", 0)
    shift = 8 * (opsel >> 2 & 3) if kind == "fp4" else 16 * (opsel >> 3 & 1)
    kept = np.uint32(~((0xFF if kind == "fp4" else 0xFFFF) << shift) & 0xFFFFFFFF)
    put = store("u32", result)

    def step(waves: Waves) -> None:
        if source == "f32":
            pair = [fetch(waves) for fetch in values]
        else:
            pair = _halves(values[0](waves), source)
        if scale is not None:
            with np.errstate(all="ignore"):
                pair = [value.astype(np.float64) / scale(waves) for value in pair]
        low, high = (_encoded(value, narrow, waves).astype(np.uint32) for value in pair)
        packed = (low | high << np.uint32(narrow.bits)) << np.uint32(shift)
        put(waves, (waves.u32[result] & kept) | packed)

    return step


def _encoded(value: Array, narrow: NarrowFloat, waves: Waves) -> Array:
    saturates = waves.saturates
    if saturates.all():
        return formats.encode(value, narrow, saturate=True)
    plain = formats.encode(value, narrow, saturate=False)
    if not saturates.any():
        return plain
    return np.where(saturates, formats.encode(value, narrow, saturate=True), plain)


def _widened(instruction: Instruction, target: Target, to: str, kind: str, scaled: bool) -> Step:
    """Two narrow values of src0: to two registers of float32, or to two halves of one."""
    narrow = _format(kind, target)
    (codes,) = source_fetches(instruction, target, ("u32",))
    scale = _scale(instruction, target, 1) if scaled else None
    opsel = instruction.fields.get("opsel", 0)
    shift = 8 * (opsel & 3) if kind == "fp4" else 16 * (opsel & 1)
    result = destination(instruction, "vdst", target)
    mask = np.uint32((1 << narrow.bits) - 1)
    low_place, high_place = np.uint32(shift), np.uint32(shift + narrow.bits)
    second = result + (1 if to == "f32" else HIGH_HALF)
    put_low, put_high = (store("f32" if to == "f32" else "u16", r) for r in (result, second))

    def step(waves: Waves) -> None:
        bits = codes(waves)
        values = [formats.decode(bits >> place & mask, narrow) for place in (low_place, high_place)]
        if scale is not None:
            factor = scale(waves)
            values = [(value * factor).astype(np.float32) for value in values]
        low, high = (_wide(value, to) for value in values)
        put_low(waves, low)
        put_high(waves, high)

    return step


def _one_widened(instruction: Instruction, target: Target, kind: str) -> Step:
    """One narrow value of src0, of a byte that SDWA chose, or else RDNA4's op_sel."""
    narrow = _format(kind, target)
    (codes,) = source_fetches(instruction, target, ("u32",))
    opsel = instruction.fields.get("opsel", 0)
    # RDNA4 ISA, V_CVT_F32_FP8: "byte select bits are reversed".
    shift = np.uint32(8 * ((opsel & 1) << 1 | opsel >> 1 & 1))
    put = store("f32", destination(instruction, "vdst", target))
    return lambda waves: put(waves, formats.decode(codes(waves) >> shift & np.uint32(0xFF), narrow))


def _wide(value: Array, to: str) -> Array:
    if to == "f32":
        return value
    if to == "bf16":
        return formats.f32_to_bf16(value)
    return formats.f32_to_f16(value).view(np.uint16)


def _halves(packed: Array, kind: str) -> list[Array]:
    halves = [(packed >> np.uint32(shift)).astype(np.uint16) for shift in (0, 16)]
    if kind == "bf16":
        return [formats.bf16_to_f32(half) for half in halves]
    return [half.view(np.float16).astype(np.float32) for half in halves]


def _scale(instruction: Instruction, target: Target, index: int) -> Fetch:
    """The power of two whose exponent a float32 source has; NaN for the exponent 255."""
    kinds = ("u32",) * (index + 1)
    bits_of_scale: Callable[[Waves], Any] = source_fetches(instruction, target, kinds)[index]

    def of(waves: Waves) -> Array:
        exponent = (bits_of_scale(waves) >> np.uint32(23) & np.uint32(0xFF)).astype(np.int32)
        return np.where(exponent == 255, np.nan, np.ldexp(1.0, exponent - 127))

    return of
