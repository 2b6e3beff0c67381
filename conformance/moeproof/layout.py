"""Where a case's values lie in memory: strides, offsets, and guard zones around each tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

from moeproof.case import Layout
from moeproof.owned_memory import declare_owned

GUARD_ELEMENTS = 64
"""Elements before and after each tensor; a multiple of 64 keeps its start aligned."""

_OFFSET_ELEMENTS = 3  # no power of two, so no vector load is aligned
_ROW_PADDING = 5
_ROW_PADDING_OF_IDS = 3  # so that ids and weights of one shape differ in their strides
_FAR_ELEMENTS = 2**31 + 64  # one step between experts or tokens passes the range of int32
_SIGNED = {2: torch.int16, 4: torch.int32}


@dataclass(frozen=True)
class PlacedTensor:
    """A tensor inside a larger buffer of its own.

    Attributes:
        tensor: the view that an implementation is given.
        buffer: the whole buffer, 1-D; NaN (or the largest integer) wherever ``tensor`` is not.
        original: a copy of the buffer's bits, or of the tensor's for a buffer too large to copy.
    """

    tensor: torch.Tensor
    buffer: torch.Tensor
    original: torch.Tensor

    def changed(self) -> str | None:
        """What has been written since: "values", "guard zone", or None."""
        if self.original.numel() != self.buffer.numel():
            same = torch.equal(_bits(self.tensor.contiguous()).reshape(-1), self.original)
            return None if same else "values"
        if torch.equal(_bits(self.buffer), self.original):
            return None
        before = self.original.view(self.buffer.dtype).as_strided(
            self.tensor.shape, self.tensor.stride(), self.tensor.storage_offset()
        )
        same = torch.equal(_bits(before.contiguous()), _bits(self.tensor.contiguous()))
        return "guard zone" if same else "values"


def place(array: NDArray[Any], *, layout: Layout, device: torch.device) -> PlacedTensor:
    """``array`` on ``device`` in the given layout.

    Layouts: ``contiguous`` (aligned), ``offset`` (contiguous, starting 3 elements past alignment),
    ``row_padded`` (5 elements between rows, 3 in integers), ``transposed`` (the last two
    dimensions swapped in memory), ``far_apart`` (steps of the first dimension pass 2**31 elements
    in all; for 16-bit types only the address space is taken, the pages between are never touched).
    """
    source = to_tensor(array)
    strides, offset, span = _geometry(source, layout)
    size = offset + span + GUARD_ELEMENTS
    sparse = size >= 2**31
    if sparse:
        buffer = torch.empty(size, dtype=source.dtype, device=device)
    else:
        buffer = torch.full((size,), _poison(source.dtype), dtype=source.dtype, device=device)
    declare_owned(buffer, offset * buffer.element_size(), (offset + span) * buffer.element_size())
    tensor = buffer.as_strided(source.shape, strides, offset)
    tensor.copy_(source)
    kept = tensor.contiguous().reshape(-1) if sparse else buffer
    return PlacedTensor(tensor, buffer, _bits(kept).clone())


def to_tensor(array: NDArray[Any]) -> torch.Tensor:
    """A CPU tensor with the array's bits; bfloat16 included."""
    contiguous = np.array(array, order="C")  # numpy calls a reversed axis of length 1 contiguous
    if contiguous.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(contiguous.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(contiguous)


def to_array(tensor: torch.Tensor) -> NDArray[Any]:
    """A numpy array with the tensor's bits, copied to the CPU; bfloat16 included."""
    tensor = tensor.detach().to("cpu", copy=True).contiguous()
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())


def _geometry(source: torch.Tensor, layout: Layout) -> tuple[tuple[int, ...], int, int]:
    """Strides, offset and span (elements from first to last) of a layout."""
    shape = tuple(source.shape)
    strides = list(torch.empty(shape, device="meta").stride())
    offset = GUARD_ELEMENTS
    if layout is Layout.OFFSET:
        offset += _OFFSET_ELEMENTS
    elif layout is Layout.ROW_PADDED and len(shape) >= 2:
        padding = _ROW_PADDING if source.is_floating_point() else _ROW_PADDING_OF_IDS
        row = shape[-1] + padding
        strides[-2] = row
        if len(shape) == 3:
            strides[0] = row * shape[1]
    elif layout is Layout.TRANSPOSED and len(shape) >= 2:
        strides[-2:] = [1, shape[-2]]
    elif layout is Layout.FAR_APART and source.is_floating_point() and shape[0] > 1:
        strides[0] = max(strides[0], -(-_FAR_ELEMENTS // (shape[0] - 1)))
    span = (
        1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        if source.numel()
        else 0
    )
    return tuple(strides), offset, span


def _poison(dtype: torch.dtype) -> float | int:
    return float("nan") if dtype.is_floating_point else torch.iinfo(dtype).max


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's bits as integers, so that NaN equals itself."""
    return tensor.view(_SIGNED[tensor.element_size()])
