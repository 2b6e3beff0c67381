"""The floating-point formats a case may use, described by their parameters."""

from __future__ import annotations

from dataclasses import dataclass, field

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class NumberFormat:
    """A binary floating-point format with subnormals and infinities.

    Attributes:
        name: the name used in case ids and reports.
        significand_bits: precision p, the hidden bit included.
        min_exponent: exponent of the smallest normal number, 2**min_exponent.
        largest: largest finite value.
        numpy_dtype: the numpy dtype that stores it (tf32 is stored as float32).
    """

    name: str
    significand_bits: int
    min_exponent: int
    largest: float
    numpy_dtype: np.dtype = field(compare=False)

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of one rounding to nearest, 2**-p."""
        return 2.0**-self.significand_bits

    @property
    def smallest_subnormal(self) -> float:
        """The spacing of the subnormal numbers, 2**(min_exponent - p + 1)."""
        return 2.0 ** (self.min_exponent - self.significand_bits + 1)


BF16 = NumberFormat("bf16", 8, -126, (2 - 2.0**-7) * 2.0**127, np.dtype(ml_dtypes.bfloat16))
FP16 = NumberFormat("fp16", 11, -14, 65504.0, np.dtype(np.float16))
FP32 = NumberFormat("fp32", 24, -126, (2 - 2.0**-23) * 2.0**127, np.dtype(np.float32))
TF32 = NumberFormat("tf32", 11, -126, (2 - 2.0**-10) * 2.0**127, np.dtype(np.float32))

STORAGE_FORMATS = {fmt.name: fmt for fmt in (BF16, FP16, FP32)}
"""Formats a tensor of a case can be stored in."""


def number_format(name: str) -> NumberFormat:
    """The format called ``name``: bf16, fp16, fp32 or tf32. Raises ValueError for another."""
    formats = {**STORAGE_FORMATS, TF32.name: TF32}
    if name not in formats:
        raise ValueError(f"number format {name!r} is unknown; allowed: {', '.join(formats)}")
    return formats[name]
