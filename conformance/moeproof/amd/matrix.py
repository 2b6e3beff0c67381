"""Matrix instructions: MFMA of gfx90a, gfx942 and gfx950, WMMA of RDNA3 and RDNA4.

What is modelled: D = A @ B + C in float64, rounded once to float32. Products are exact and for
types of up to 16 bits so is nearly every sum, so the result does not depend on an order.

What hardware does otherwise: it adds the products of one instruction in blocks, aligned to the
largest and cut off below some bits, and rounds the accumulator more often (Li et al., "FTTN:
Feature-Targeted Testing for Numerical Properties of NVIDIA & AMD Matrix Accelerators", 2024). A
sum that overflows float32 on the way and comes back is infinite or NaN there, finite here. XF32
inputs are rounded here to 10 bits of mantissa, to nearest even; the manual leaves it open.
MFMA of 16-bit floats on gfx90a takes denormal inputs for zero and flushes denormal results
(PyTorch, "Numerical accuracy"): that is modelled.

The instructions that only gfx950 has (16x16x32 and 32x32x16 of 16-bit floats, f8f6f4 with and
without scales) are consistent with Triton's code for them, not verified.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moeproof.amd import formats
from moeproof.amd.formats import NarrowFloat, flush_denormals
from moeproof.amd.matrix_layouts import (
    RDNA3_OPERAND,
    RDNA3_RESULT,
    RDNA4_OPERAND,
    RDNA4_RESULT,
    ResultLayout,
    mfma_operand,
    mfma_result,
)
from moeproof.amd.matrix_operands import (
    EIGHT_BIT_TYPES,
    Operand,
    mixed_operand,
    operands,
    scales,
)

Dwords: TypeAlias = NDArray[np.uint32]


# Larger temporaries are mapped and unmapped at each call, which takes longer than the product.
_WAVES_AT_ONCE = 16


@dataclass(frozen=True)
class MatrixInstruction:
    """One matrix instruction on one architecture. Ignores EXEC, as the hardware does.

    Attributes:
        a, b: the operands; ``a.registers`` and ``b.registers`` a lane.
        result: layout of C and D; ``result.registers`` a lane.
        integer: C and D are int32, else float32.
        flushes: denormals are taken and given as zero.
    """

    mnemonic: str
    a: Operand
    b: Operand
    result: ResultLayout
    integer: bool = False
    flushes: bool = False

    def execute(
        self,
        a: Dwords,
        b: Dwords,
        c: Dwords | np.generic | float,
        *,
        scale_a: NDArray[np.uint8] | None = None,
        scale_b: NDArray[np.uint8] | None = None,
        out: Dwords | None = None,
    ) -> Dwords:
        """D's registers, ``(result.registers, w, lanes)``.

        Args:
            a, b: ``(a.registers, w, lanes)``, ``(b.registers, w, lanes)``.
            c: ``(result.registers, w, lanes)``, or a number for an inline constant.
            scale_a, scale_b: of a scaled f8f6f4: the byte that op_sel (bit 0) and op_sel_hi (bit
                1) select of each lane's scale register, ``(w, lanes)``. A scale is 2**(byte - 127),
                or NaN for 255, and holds for 32 values along K: those that a lane of the same
                index holds where each lane holds 32 consecutive ones.
            out: where to put D, C-contiguous but for the axis of waves; may be c itself.

        Raises:
            ValueError: the half waves of an RDNA3 operand differ.
        """
        shape = (self.result.registers, *a.shape[1:])
        if out is None:
            out = np.empty(shape, np.uint32)
        for first in range(0, shape[1], _WAVES_AT_ONCE):
            some = slice(first, first + _WAVES_AT_ONCE)
            self._execute(
                a[:, some],
                b[:, some],
                c if np.ndim(c) == 0 else np.asarray(c)[:, some],
                None if scale_a is None else scale_a[some],
                None if scale_b is None else scale_b[some],
                out[:, some],
            )
        return out

    def _execute(
        self,
        a: Dwords,
        b: Dwords,
        c: Dwords | np.generic | float,
        scale_a: NDArray[np.uint8] | None,
        scale_b: NDArray[np.uint8] | None,
        out: Dwords,
    ) -> None:
        left, right = self.a.rows_by_k(a), self.b.rows_by_k(b)
        if scale_a is not None and scale_b is not None:
            left *= scales(scale_a, self.a.layout)
            right *= scales(scale_b, self.b.layout)
        if self.a.layout != self.b.layout:
            left, right = left[:, self.a.layout.by_k], right[:, self.b.layout.by_k]
        with np.errstate(all="ignore"):
            product = self.result.to_registers(np.matmul(left.transpose(0, 2, 1), right))
            addend = self._addend(c, product.shape)
            if self.integer:
                out[...] = (product + addend).astype(np.int64).astype(np.uint32).reshape(out.shape)
                return
            result = out.view(np.float32)
            np.add(product, addend, out=result.reshape(product.shape), casting="same_kind")
            if self.flushes:
                result[...] = flush_denormals(result)

    def _addend(self, c: Dwords | np.generic | float, shape: tuple[int, ...]) -> Any:
        if np.ndim(c) == 0:
            return np.float64(c)
        dwords = np.asarray(c)
        if self.integer:
            return dwords.view(np.int32).reshape(shape)
        single = dwords.view(np.float32)
        return (flush_denormals(single) if self.flushes else single).reshape(shape)


@cache
def matrix_instruction(
    mnemonic: str, arch: str, *, cbsz: int = 0, blgp: int = 0
) -> MatrixInstruction | None:
    """The instruction ``mnemonic`` of ``arch`` ("gfx942"), with or without gfx90a's spelling.

    ``cbsz`` and ``blgp`` choose the formats of A and B in f8f6f4, by their place in
    ``F8F6F4_FORMATS``; otherwise they would broadcast blocks and must be 0. None for whatever is
    not modelled: several blocks, sparse, double precision, 16-bit accumulators, integer WMMA.
    """
    name = mnemonic.lower()
    if arch.startswith(("gfx11", "gfx12")):
        return None if cbsz or blgp else _wmma(name, arch)
    return _mfma(name, arch, cbsz, blgp)


F8F6F4_FORMATS: tuple[NarrowFloat, ...] = (
    formats.E4M3FN,
    formats.E5M2,
    formats.E2M3,
    formats.E3M2,
    formats.E2M1,
)

_MFMA = re.compile(
    r"v_mfma_(?:scale_)?(?P<result>f32|i32)_(?P<rows>16x16|32x32)x(?P<depth>\d+)_?"
    r"(?P<types>[a-z][a-z0-9]*(?:_[fb][fp]?8)?)(?:_1k)?"
)
_WMMA = re.compile(r"v_wmma_f32_16x16x16_(?P<types>[a-z0-9]+(?:_[fb][fp]?8)?)(?:_e64)?")

# (rows, K) of the single-block MFMAs of each architecture.
_HALVES = {(32, 8), (16, 16)}
_DOUBLE_HALVES = _HALVES | {(32, 16), (16, 32)}
_BYTES = {(32, 16), (16, 32)}
_MFMA_SHAPES: dict[str, dict[str, set[tuple[int, int]]]] = {
    "gfx90a": {
        "f32": {(32, 2), (16, 4)},
        "f16": _HALVES,
        "bf16": _HALVES,
        "i8": _HALVES,
    },
    "gfx942": {
        "f32": {(32, 2), (16, 4)},
        "xf32": {(32, 4), (16, 8)},
        "f16": _HALVES,
        "bf16": _HALVES,
        "i8": _BYTES,
        **dict.fromkeys(EIGHT_BIT_TYPES, _BYTES),
    },
    "gfx950": {
        "f32": {(32, 2), (16, 4)},
        "f16": _DOUBLE_HALVES,
        "bf16": _DOUBLE_HALVES,
        "i8": _BYTES | {(32, 32), (16, 64)},
        **dict.fromkeys(EIGHT_BIT_TYPES, _BYTES),
        "f8f6f4": {(32, 64), (16, 128)},
    },
}


def _mfma(name: str, arch: str, cbsz: int, blgp: int) -> MatrixInstruction | None:
    match = _MFMA.fullmatch(name)
    if match is None:
        return None
    types, rows, depth = match["types"], int(match["rows"][:2]), int(match["depth"])
    if (rows, depth) not in _MFMA_SHAPES.get(arch, {}).get(types, set()):
        return None
    if types == "f8f6f4":
        if max(cbsz, blgp) >= len(F8F6F4_FORMATS):
            return None
        a, b = (mixed_operand(F8F6F4_FORMATS[i], rows, depth) for i in (cbsz, blgp))
    elif cbsz or blgp:
        return None
    else:
        layout = mfma_operand(outer=rows, depth=depth)
        a, b = operands(types, arch, layout)
    return MatrixInstruction(
        mnemonic=name,
        a=a,
        b=b,
        result=mfma_result(rows),
        integer=match["result"] == "i32",
        flushes=arch == "gfx90a" and types in ("f16", "bf16"),
    )


def _wmma(name: str, arch: str) -> MatrixInstruction | None:
    match = _WMMA.fullmatch(name)
    rdna3 = arch.startswith("gfx11")
    known = ("f16", "bf16") if rdna3 else ("f16", "bf16", *EIGHT_BIT_TYPES)
    if match is None or match["types"] not in known:
        return None
    a, b = operands(match["types"], arch, RDNA3_OPERAND if rdna3 else RDNA4_OPERAND)
    return MatrixInstruction(
        mnemonic=name, a=a, b=b, result=RDNA3_RESULT if rdna3 else RDNA4_RESULT
    )
