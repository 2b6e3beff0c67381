"""Which bytes of a buffer belong to a tensor: what lies beside them is nobody's.

Tensors that a check places lie between guard zones in a larger buffer. Where memory accesses are
watched one by one, those zones are out of bounds, whatever view of the buffer a kernel is given.
"""

from __future__ import annotations

from typing import Any

import torch

_ATTRIBUTE = "moeproof_owned_bytes"


def declare_owned(buffer: torch.Tensor, first: int, end: int) -> None:
    """Let only bytes from ``first`` up to ``end`` of the buffer's storage be accessed.

    Holds for every tensor in that storage, as long as the storage lives.
    """
    setattr(buffer.untyped_storage(), _ATTRIBUTE, (first, end))


def owned_bytes(tensor: torch.Tensor) -> tuple[int, int]:
    """The first address that may be accessed through a tensor, and how many bytes from there on.

    That is what was declared for its storage, else the whole storage.
    """
    storage: Any = tensor.untyped_storage()
    first, end = getattr(storage, _ATTRIBUTE, (0, storage.nbytes()))
    return storage.data_ptr() + first, end - first
