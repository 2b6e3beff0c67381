"""A and B of a matrix instruction: from packed registers to values along K."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.formats import NarrowFloat, eight_bit_format
from moeproof.amd.matrix_layouts import OperandLayout, mfma_operand

Dwords: TypeAlias = NDArray[np.uint32]
Values: TypeAlias = NDArray[np.float64]
Decoder: TypeAlias = Callable[[Dwords], Values]

EIGHT_BIT_TYPES = ("fp8_fp8", "fp8_bf8", "bf8_fp8", "bf8_bf8")
SCALE_BLOCK = 32
"""Values along K that share one scale."""


@dataclass(frozen=True)
class Operand:
    """A or B: its layout, bits of an element, and how registers become values.

    ``decode``: ``(registers, w, lanes)`` dwords -> ``(w, elements, lanes)`` float64.
    """

    layout: OperandLayout
    bits: int
    decode: Decoder

    @property
    def registers(self) -> int:
        return self.layout.elements * self.bits // 32

    def rows_by_k(self, registers: Dwords) -> Values:
        """``(w, K, outer)``, k in the order of ``layout.k``."""
        values = self.decode(registers)
        waves, elements, lanes = values.shape
        if self.layout.copies == 2:
            half = lanes // 2
            if not np.array_equal(registers[..., :half], registers[..., half:]):
                raise ValueError("A and B of WMMA on RDNA3 must be the same in both half waves")
            values = values[..., :half]
        return values.reshape(waves, elements * self.layout.groups, -1)


def operands(types: str, arch: str, layout: OperandLayout) -> tuple[Operand, Operand]:
    """A and B of an instruction whose name ends in ``types``, such as "bf16" or "fp8_bf8"."""
    if types in EIGHT_BIT_TYPES:
        kinds = types.split("_")
        a, b = (_narrow_operand(eight_bit_format(kind, arch), layout) for kind in kinds)
        return a, b
    decoders: dict[str, tuple[int, Decoder]] = {
        "f32": (32, _decode_f32),
        "xf32": (32, _decode_xf32),
        "f16": (16, _decode_f16_flushed if arch == "gfx90a" else _decode_f16),
        "bf16": (16, _decode_bf16_flushed if arch == "gfx90a" else _decode_bf16),
        "i8": (8, _decode_i8),
    }
    operand = Operand(layout, *decoders[types])
    return operand, operand


def _narrow_operand(narrow: NarrowFloat, layout: OperandLayout) -> Operand:
    table = narrow.values.astype(np.float64)

    def decode(registers: Dwords) -> Values:
        codes = _elements(registers, narrow.bits)
        return table.take(codes)

    return Operand(layout, narrow.bits, decode)


def mixed_operand(narrow: NarrowFloat, rows: int, depth: int) -> Operand:
    """A or B of f8f6f4: 8-bit values come in runs of 16 along K, narrower ones in runs of 32."""
    layout = mfma_operand(outer=rows, depth=depth, run=16 if narrow.bits == 8 else 32)
    return _narrow_operand(narrow, layout)


def scales(codes: NDArray[np.uint8], layout: OperandLayout) -> Values:
    """The scale of each value, ``(w, elements * groups, outer)``."""
    exponents = codes.astype(np.int32) - 127
    values = np.where(codes == 255, np.nan, np.ldexp(1.0, exponents))
    by_group = values.reshape(len(values), layout.groups, -1)
    scaled: Values = by_group[:, (layout.k // SCALE_BLOCK).reshape(-1)]
    return scaled


def _elements(registers: Dwords, bits: int) -> NDArray[np.uint8]:
    """Unsigned elements of ``bits`` each, lowest bits first: ``(w, elements, lanes)``."""
    count, waves, lanes = registers.shape
    by_lane = registers.view(np.uint8).reshape(count, waves, lanes, 4)
    octets = by_lane.transpose(1, 0, 3, 2).reshape(waves, count * 4, lanes)
    if bits == 8:
        return octets
    if bits == 4:
        nibbles = np.stack((octets & np.uint8(15), octets >> np.uint8(4)), axis=2)
        return nibbles.reshape(waves, -1, lanes)
    triples = octets.reshape(waves, -1, 3, lanes).astype(np.uint32)  # four 6-bit values
    joined = triples[:, :, 0] | triples[:, :, 1] << 8 | triples[:, :, 2] << 16
    values = np.stack([joined >> shift & 63 for shift in (0, 6, 12, 18)], axis=2)
    return values.astype(np.uint8).reshape(waves, -1, lanes)


def _decode_f32(registers: Dwords) -> Values:
    return registers.view(np.float32).transpose(1, 0, 2).astype(np.float64)


def _decode_xf32(registers: Dwords) -> Values:
    odd = registers >> np.uint32(13) & np.uint32(1)
    rounded = (registers + (odd + np.uint32(0xFFF))) & np.uint32(0xFFFFE000)
    nan = np.isnan(registers.view(np.float32))
    return _decode_f32(np.where(nan, registers, rounded))


def _halves(low: NDArray[Any], high: NDArray[Any]) -> Values:
    """``(registers, w, lanes)`` each, of any float type."""
    count, waves, lanes = low.shape
    values = np.empty((waves, count, 2, lanes))
    values[:, :, 0] = low.transpose(1, 0, 2)
    values[:, :, 1] = high.transpose(1, 0, 2)
    return values.reshape(waves, count * 2, lanes)


def _decode_f16(registers: Dwords) -> Values:
    halves = registers.view(np.float16)
    return _halves(halves[..., 0::2], halves[..., 1::2])


def _decode_bf16(registers: Dwords) -> Values:
    low, high = registers << np.uint32(16), registers & np.uint32(0xFFFF0000)
    return _halves(low.view(np.float32), high.view(np.float32))


def _flushed(values: Values, smallest_normal: float) -> Values:
    return np.where(np.abs(values) < smallest_normal, 0.0, values)


def _decode_f16_flushed(registers: Dwords) -> Values:
    return _flushed(_decode_f16(registers), 2.0**-14)


def _decode_bf16_flushed(registers: Dwords) -> Values:
    return _flushed(_decode_bf16(registers), 2.0**-126)


def _decode_i8(registers: Dwords) -> Values:
    return _elements(registers, 8).view(np.int8).astype(np.float64)
