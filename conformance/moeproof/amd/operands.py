"""From an instruction's operand fields to functions that fetch and store values of waves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from moeproof.amd.decoding import Instruction, UnknownInstruction
from moeproof.amd.state import FIRST_CONSTANT, FIRST_VECTOR, HIGH_HALF, LITERAL, MOVED, Array, Waves

Step = Callable[[Waves], None]
Fetch = Callable[[Waves], Array]
Store = Callable[[Waves, Array], None]

_LITERAL_FOLLOWS = 255
_NULL_RDNA = 124
# Sources that read no register: base addresses of memory apertures, VCCZ, EXECZ, SCC, LDS.
_UNSUPPORTED_SOURCES = (*range(230, 240), 249, 250, 251, 252, 253, 254)
_SMALL_FORMATS = ("VOP1", "VOP2", "VOPC")


@dataclass(frozen=True)
class Target:
    """What the meaning of an instruction depends on beside itself.

    family: "cdna", "rdna3" or "rdna4". lanes: of a wave. accumulator_offset: the vector register
    that AccVGPR 0 is.
    """

    arch: str
    family: str
    lanes: int
    accumulator_offset: int

    @property
    def m0(self) -> int:
        """The operand number of M0, which RDNA has moved to make room for NULL."""
        return 124 if self.family == "cdna" else 125


def unknown(instruction: Instruction, why: str) -> UnknownInstruction:
    """The error to raise for an instruction that is decoded but not (wholly) implemented."""
    return UnknownInstruction(f"{instruction}: {why}")


def source(instruction: Instruction, name: str, target: Target, *, bits: int = 32) -> int:
    """The operand number, for `state.Waves`, that the field `name` reads.

    bits: width of the value. With 16, RDNA's small formats name a half register.
    """
    value = instruction.fields[name]
    if value == _LITERAL_FOLLOWS and instruction.literal is not None:
        return LITERAL | instruction.literal
    if value == _NULL_RDNA and target.family != "cdna":
        return FIRST_CONSTANT  # reads as zero
    if value in _UNSUPPORTED_SOURCES:
        raise unknown(instruction, f"source operand {value} is not emulated")
    return _vector_half(instruction, value, target, bits)


def destination(instruction: Instruction, name: str, target: Target, *, bits: int = 32) -> int:
    """The operand number that the field `name` writes.

    RDNA's NULL is a scalar register of its own here, which nothing reads.
    """
    return _vector_half(instruction, instruction.fields[name], target, bits)


def _vector_half(instruction: Instruction, value: int, target: Target, bits: int) -> int:
    if value < FIRST_VECTOR or value == MOVED or bits != 16 or target.family == "cdna":
        return value
    if not instruction.encoding.startswith(_SMALL_FORMATS):
        return value
    # RDNA3 ISA, section 7.4 "16-bit math": bit 7 of the register number names the half.
    high, register = divmod(value - FIRST_VECTOR, 128)
    return FIRST_VECTOR + register + (HIGH_HALF if high else 0)


def upper_half(operand: int) -> int:
    """The upper 16 bits of an operand; an inline constant has the same value in both halves."""
    if operand >= LITERAL:
        return LITERAL | (operand & 0xFFFFFFFF) >> 16
    return operand if FIRST_CONSTANT <= operand < FIRST_VECTOR else operand + HIGH_HALF


def bits_of(kind: str) -> int:
    """Width of a type such as "f32"; "u32as64" is 32 bits wide, and 64 once fetched."""
    return int(kind[1:3])


def fetch(kind: str, operand: int) -> Fetch:
    """Reads `operand` as the type `kind`, `(waves, lanes)` or what broadcasts to it."""
    if kind == "u32as64":
        return lambda waves: waves.u32[operand].astype(np.uint64)
    if bits_of(kind) == 64 and FIRST_VECTOR <= operand < LITERAL:
        dtype = np.dtype(f"{kind[0]}8")
        return lambda waves: waves.pair(operand).view(dtype)
    views = attrgetter(kind)
    return lambda waves: views(waves)[operand]


def modified(plain: Fetch, *, negate: bool, absolute: bool) -> Fetch:
    """With the input modifiers of a floating-point operand."""
    if negate and absolute:
        return lambda waves: -np.abs(plain(waves))
    if negate:
        return lambda waves: -plain(waves)
    if absolute:
        return lambda waves: np.abs(plain(waves))
    return plain


def store(kind: str, operand: int) -> Store:
    """Writes values of the type `kind` in the active lanes."""
    if bits_of(kind) == 64:
        return lambda waves, value: waves.set_pair(operand, value)
    views = attrgetter(kind)

    def write(waves: Waves, value: Any) -> None:
        np.copyto(views(waves)[operand], value, where=waves.mask)

    return write


def store_zero_extended(kind: str, operand: int) -> Store:
    """Writes a 16-bit value and zeros above it: CDNA, where the operation does not keep them."""
    unsigned = np.uint16

    def write(waves: Waves, value: Any) -> None:
        bits = np.ascontiguousarray(value, np.dtype(value.dtype)).view(unsigned)
        np.copyto(waves.u32[operand], bits.astype(np.uint32), where=waves.mask)

    return write
