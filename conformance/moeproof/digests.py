"""Digests of tensors: the same on every machine if, and only if, the values are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def bits_of(array: Array) -> Array:
    """The numbers' bit patterns as unsigned integers of the same size; +0 and -0 both as 0."""
    unsigned = np.dtype(f"u{array.dtype.itemsize}")
    bits = np.ascontiguousarray(array).view(unsigned)
    return np.where(array == 0, unsigned.type(0), bits)


def output_digest(bits: Array) -> str:
    """sha256, in hexadecimal, of an output's bit patterns (T, H)."""
    return _digest({"output": bits})


def input_digest(arrays: Mapping[str, Array]) -> str:
    """sha256, in hexadecimal, of a call's arrays by name, every bit of them."""
    return _digest(
        {
            name: np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
            for name, array in arrays.items()
        }
    )


def _digest(unsigned: Mapping[str, Array]) -> str:
    """Each tensor is a line "NAME BYTES SIZE SIZE ..." and its little-endian integers by rows."""
    digest = hashlib.sha256()
    for name, array in unsigned.items():
        sizes = " ".join(str(size) for size in (array.dtype.itemsize, *array.shape))
        digest.update(f"{name} {sizes}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
