"""What the launches of a call depend on of a tensor: everything but its address and its values."""

from __future__ import annotations

from typing import NamedTuple

import torch

ALIGNMENT = 16
"""Bytes. Triton compiles another kernel for a tensor that does not start at a multiple of it."""


class TensorSpec(NamedTuple):
    """Strides in elements; `aligned`: the tensor starts at a multiple of ALIGNMENT."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    aligned: bool

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorSpec:
        aligned = tensor.data_ptr() % ALIGNMENT == 0
        return cls(tensor.shape, tensor.stride(), tensor.dtype, aligned)

    @classmethod
    def of_matrix(cls, rows: int, columns: int, dtype: torch.dtype) -> TensorSpec:
        """A matrix as torch allocates it: contiguous, and aligned to 64 bytes and more."""
        return cls((rows, columns), (columns, 1), dtype, aligned=True)
