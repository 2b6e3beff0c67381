"""Narrow floating-point formats: their values, and rounding float32 into them.

The 8-bit formats of one architecture are one of two families: gfx942 has the "fnuz" ones (no
infinity, one NaN, no negative zero; CDNA3 ISA manual, section 7.2), gfx950 and gfx12 those of the
Open Compute Project's "8-bit Floating Point Specification", revision 1.0; the 4-bit and 6-bit ones
and the scales follow its "Microscaling Formats (MX) Specification", revision 1.0.

Rounding is to nearest, ties to even, denormals kept. The bits of a NaN are a quiet NaN's, with the
sign kept where the format has one; the payload that hardware gives is not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class NarrowFloat:
    """A format of 4 to 8 bits; its codes are kept in uint8."""

    name: str
    bits: int
    dtype: np.dtype[Any]

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """Value of each code, ``(2**bits,)``."""
        codes = np.arange(2**self.bits, dtype=np.uint8)
        return codes.view(self.dtype).astype(np.float32)

    @cached_property
    def largest(self) -> float:
        """The largest finite value."""
        return float(self.values[np.isfinite(self.values)].max())


def _format(name: str, bits: int, dtype: Any) -> NarrowFloat:
    return NarrowFloat(name, bits, np.dtype(dtype))


E4M3FN = _format("e4m3fn", 8, ml_dtypes.float8_e4m3fn)
E5M2 = _format("e5m2", 8, ml_dtypes.float8_e5m2)
E4M3FNUZ = _format("e4m3fnuz", 8, ml_dtypes.float8_e4m3fnuz)
E5M2FNUZ = _format("e5m2fnuz", 8, ml_dtypes.float8_e5m2fnuz)
E2M3 = _format("e2m3", 6, ml_dtypes.float6_e2m3fn)
E3M2 = _format("e3m2", 6, ml_dtypes.float6_e3m2fn)
E2M1 = _format("e2m1", 4, ml_dtypes.float4_e2m1fn)


def eight_bit_format(kind: str, arch: str) -> NarrowFloat:
    """What an instruction's ``fp8`` or ``bf8`` means on ``arch``.

    Raises:
        ValueError: ``kind`` is neither, or the architecture has no 8-bit floats.
    """
    families = {
        "gfx942": {"fp8": E4M3FNUZ, "bf8": E5M2FNUZ},
        "gfx950": {"fp8": E4M3FN, "bf8": E5M2},
        "gfx1200": {"fp8": E4M3FN, "bf8": E5M2},
        "gfx1201": {"fp8": E4M3FN, "bf8": E5M2},
    }
    if arch not in families:
        raise ValueError(f"arch: one of {sorted(families)} has 8-bit floats, {arch!r} has none")
    if kind not in families[arch]:
        raise ValueError(f"kind: 'fp8' or 'bf8', got {kind!r}")
    return families[arch][kind]


def decode(codes: Array, narrow: NarrowFloat) -> NDArray[np.float32]:
    """Values of ``codes`` (unsigned, any shape; bits above the format's must be 0)."""
    return narrow.values[codes]


def encode(values: Array, narrow: NarrowFloat, *, saturate: bool) -> NDArray[np.uint8]:
    """Codes of float32 or float64 ``values``, each rounded once.

    Args:
        saturate: the FP16_OVFL bit of MODE: what is finite and too large becomes the largest
            finite value, not infinity or NaN. Infinities are not finite: they stay infinite, or
            become NaN in a format without one. Formats without NaN always saturate.
    """
    if narrow.bits < 8:
        return np.clip(values, -narrow.largest, narrow.largest).astype(narrow.dtype).view(np.uint8)
    if saturate:
        limited = np.clip(values, -narrow.largest, narrow.largest)
        values = np.where(np.isinf(values), values, limited)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(narrow.dtype).view(np.uint8)


def bf16_to_f32(bits: Array) -> NDArray[np.float32]:
    """uint16 bits of bfloat16 -> float32, exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f32_to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """float32 -> uint16 bits of bfloat16, to nearest even; a NaN stays one, made quiet."""
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + (odd + np.uint32(0x7FFF))) >> np.uint32(16)
    nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    if nan.any():
        rounded = np.where(nan, (bits >> np.uint32(16)) | np.uint32(0x40), rounded)
    return rounded.astype(np.uint16)


def f32_to_f16(values: NDArray[np.float32], *, saturate: bool = False) -> NDArray[np.float16]:
    """To nearest even; ``saturate`` as for ``encode``."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16)
    if saturate:
        over = np.isinf(rounded) & np.isfinite(values)
        rounded = np.where(over, np.copysign(np.float16(65504), rounded), rounded)
    return rounded


def f32_to_f16_toward_zero(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """As ``v_cvt_pkrtz_f16_f32`` rounds: what is too large becomes 65504, infinity stays."""
    nearest = f32_to_f16(values)
    with np.errstate(invalid="ignore"):
        away = np.abs(nearest.astype(np.float32)) > np.abs(values)
    # One step toward zero is one less in the bits, whatever the sign.
    return (nearest.view(np.uint16) - away.astype(np.uint16)).view(np.float16)


def flush_denormals(values: Array) -> Array:
    """Denormals of float32 or float16 -> zero of the same sign, as MODE's denormal bits ask."""
    # By the bits, which takes a third of the time that comparing magnitudes does.
    narrow = values.dtype == np.float16
    sign, exponent = (0x8000, 0x7C00) if narrow else (0x80000000, 0x7F800000)
    bits: Array = values.view(np.uint16 if narrow else np.uint32)
    small = bits & bits.dtype.type(exponent) == 0
    flushed: Array = bits & ~(small * bits.dtype.type(sign - 1))
    return flushed.view(values.dtype)
