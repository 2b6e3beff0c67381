"""An array of bytes as overlapping words, so that one gather moves words at any byte offset."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
