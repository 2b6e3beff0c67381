"""Random numbers that are the same bits on every machine and every numpy.

Only the raw 64-bit words of Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC'11) are taken from numpy; they are fixed by the algorithm, while the distributions of
``numpy.random.Generator`` may change between versions. Everything here derives from the words by
integer arithmetic and exact or correctly rounded operations, so no math library is involved.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]


class RandomSource:
    """A stream of random numbers named by strings, for example a case id and a tensor's name."""

    def __init__(self, *names: str) -> None:
        """Two sources with the same names give the same numbers; any other name is independent."""
        digest = hashlib.blake2b("\x1f".join(names).encode(), digest_size=16).digest()
        self._words = np.random.Philox(key=np.frombuffer(digest, dtype="<u8").astype(np.uint64))

    def words(self, count: int) -> NDArray[np.uint64]:
        """The next ``count`` raw 64-bit words."""
        return np.asarray(self._words.random_raw(count), dtype=np.uint64)

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> Int64Array:
        """Integers in [low, high), high - low < 2**32 (bias below 2**-32 by multiply-shift)."""
        if not 0 < high - low < 2**32:
            raise ValueError(f"high - low must be in [1, 2**32), got {high} - {low}")
        upper = self.words(_size(shape)) >> np.uint64(32)
        scaled = (upper * np.uint64(high - low)) >> np.uint64(32)
        return np.asarray(scaled.astype(np.int64).reshape(shape) + low)

    def symmetric(self, shape: tuple[int, ...]) -> Float64Array:
        """Independent values, bell-shaped, with exactly symmetric signs and unit variance.

        The sum of four 16-bit uniform integers, centred (Irwin-Hall with n = 4): bounded by
        2*sqrt(3), close enough to normal for test data.
        """
        quarters = self.words(_size(shape)).view(np.uint16).reshape(*shape, 4)
        centred = quarters.sum(axis=-1, dtype=np.int64) * 2 - 4 * 65535
        return np.asarray(centred * (np.sqrt(3.0) / (2 * 65536.0)) + 0.0)

    def uniform(self, shape: tuple[int, ...]) -> Float64Array:
        """Values in (0, 1): odd multiples of 2**-53."""
        return np.asarray(
            ((self.words(_size(shape)) >> np.uint64(11)) | np.uint64(1)) * 2.0**-53
        ).reshape(shape)

    def signs(self, shape: tuple[int, ...]) -> Float64Array:
        """Values in {-1, +1}."""
        return np.asarray(
            1.0 - 2.0 * (self.words(_size(shape)) >> np.uint64(63)).astype(np.float64)
        ).reshape(shape)

    def permutations(self, rows: int, length: int) -> Int64Array:
        """(rows, length): each row a random permutation of range(length)."""
        keys = self.words(rows * length).reshape(rows, length)
        return np.asarray(np.argsort(keys, axis=1, kind="stable"), dtype=np.int64)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) if shape else 1


def round_to_storage(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """``values`` (float64) rounded once, to nearest even, to a storage dtype.

    bfloat16 is reached by way of float32 in ml_dtypes, which rounds twice; values are first cut
    to odd at 32 bits (Boldo and Melquiond, "When double rounding is odd", 2004), so that the
    second rounding is the only one that counts (below float32's normal range both may).
    """
    if dtype in (np.dtype(np.float16), np.dtype(np.float32)):
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(dtype)
    bits = values.astype(np.float64).view(np.uint64)
    sticky = (bits & np.uint64(0x1FFF_FFFF)) != 0
    odd = (bits & ~np.uint64(0x1FFF_FFFF)) | (sticky.astype(np.uint64) << np.uint64(29))
    return np.asarray(odd.view(np.float64).astype(np.float32).astype(dtype))
