"""An array of bytes as overlapping words, so that one gather moves words at any byte offset."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Numbers as long as the words of each size: numpy moves them several times as fast as raw bytes,
# but only where they are aligned.
_ALIGNED = {2: "<u2", 4: "<u4", 8: "<u8", 16: "<c16"}


class ByteViews:
    """``array`` (uint8, C-contiguous) with, for each size, its words that begin at every byte."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array = array
        self.flat = array.reshape(-1)
        self._views: dict[str, NDArray[Any]] = {}

    def words(self, size: int, kind: str = "V") -> NDArray[Any]:
        """Word i begins at byte i of the flat array. ``kind``: "V" for raw, "u" for unsigned."""
        name = f"{kind}{size}"
        if name not in self._views:
            count = max(self.flat.size - size + 1, 0)
            self._views[name] = np.ndarray((count,), f"<{name}", self.flat, 0, (1,))
        return self._views[name]

    def get(self, positions: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
        """The ``size`` bytes from each position on, ``(n, size)``."""
        words, index = self._place(positions, size)
        return words[index].view(np.uint8).reshape(-1, size)

    def put(self, positions: NDArray[np.int64], size: int, values: NDArray[np.uint8]) -> None:
        """Write ``values``, C-contiguous ``(n, size)``, or ``(size,)`` to all positions."""
        words, index = self._place(positions, size)
        words[index] = values.reshape(-1).view(words.dtype)

    def _place(
        self, positions: NDArray[np.int64], size: int
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """An array of words, and the indices in it of those at some positions."""
        kind = _ALIGNED.get(size)
        if kind is None or int(np.bitwise_or.reduce(positions)) % size:
            return self.words(size), positions
        if kind not in self._views:
            self._views[kind] = self.flat[: self.flat.size // size * size].view(kind)
        return self._views[kind], positions >> (size.bit_length() - 1)
