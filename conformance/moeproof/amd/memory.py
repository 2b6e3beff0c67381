"""The memory that emulated code may touch: this process's own, in registered ranges.

Addresses are the host's, as ``tensor.data_ptr()`` gives them: nothing is copied in or out. An
access that is not wholly inside one registered allocation is a ``MemoryFault``, so an address that
real hardware would silently accept (the next tensor in the same page) is caught as well.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.atomics import operation_named, read_modify_write

if TYPE_CHECKING:
    from moeproof.amd.access_record import AccessRecord

Addresses = NDArray[np.uint64]
Dwords = NDArray[np.uint32]
Mask = NDArray[np.bool_]

_FIRST_ADDRESS = 4096  # no process owns the first page
_ADDRESS_SPACE = 1 << 47


@dataclass(frozen=True)
class Allocation:
    """``size`` bytes from ``address`` on. ``array`` keeps memory of our own alive."""

    name: str
    address: int
    size: int
    array: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    @property
    def end(self) -> int:
        return self.address + self.size


class MemoryFault(Exception):  # noqa: N818 - the hardware's own word
    """An access outside every allocation, or across the end of one.

    Attributes:
        access: "load", "store" or "atomic". size: bytes a lane.
        address: of the first faulting lane.
        allocation: the nearest one that begins at or before the address, or None.
        lanes: index of each faulting lane in the address array: (wave, lane), or (wave,).
    """

    def __init__(
        self,
        access: str,
        size: int,
        *,
        address: int,
        allocation: Allocation | None,
        lanes: Sequence[tuple[int, ...]],
    ) -> None:
        self.access, self.size, self.address = access, size, address
        self.allocation, self.lanes = allocation, list(lanes)
        if allocation is None:
            place = "below every allocation"
        else:
            place = (
                f"at byte {address - allocation.address} of {allocation.name!r}, which has "
                f"{allocation.size} bytes"
            )
        others = f" and {len(self.lanes) - 1} more" if len(self.lanes) > 1 else ""
        super().__init__(
            f"{access} of {size} bytes at {address:#x}, {place} (index {self.lanes[0]}{others})"
        )


class AddressSpace:
    """The allocations, and vectorised access to them.

    Every access takes ``addresses``, uint64 of any shape (``(waves, lanes)`` for vector memory,
    ``(waves,)`` for scalar memory), and ``mask``, bool of the same shape or None for all: a lane
    whose mask is False touches nothing and loads 0.

    ``record``, where there is one, takes note of every load and store.
    """

    def __init__(self) -> None:
        self.record: AccessRecord | None = None
        self._allocations: list[Allocation] = []
        self._starts: list[int] = []
        self._bounds: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None

    @property
    def allocations(self) -> tuple[Allocation, ...]:
        """By address."""
        return tuple(self._allocations)

    def register(self, name: str, address: int, size: int) -> Allocation:
        """Allow ``size`` bytes from ``address`` on. The caller keeps the memory alive.

        Registering a range again gives the first allocation; size 0 allows nothing.

        Raises:
            ValueError: the range overlaps another allocation, or is none of this process.
        """
        return self._add(Allocation(name, address, size))

    def allocate(self, name: str, contents: bytes | int) -> Allocation:
        """New memory with these contents, or of this many bytes, all zero; 256-byte aligned."""
        size = contents if isinstance(contents, int) else len(contents)
        array = np.zeros(size + 256, np.uint8)
        offset = -array.ctypes.data % 256
        array = array[offset : offset + size]
        if not isinstance(contents, int):
            array[:] = np.frombuffer(contents, np.uint8)
        return self._add(Allocation(name, array.ctypes.data, size, array))

    def release(self, allocation: Allocation) -> None:
        """Forbid the range again."""
        index = self._allocations.index(allocation)
        del self._allocations[index], self._starts[index]
        self._bounds = None

    def find(self, address: int) -> Allocation | None:
        """The allocation that holds the byte at ``address``."""
        nearest = self._nearest(address)
        return nearest if nearest is not None and address < nearest.end else None

    def contents(self, allocation: Allocation) -> NDArray[np.uint8]:
        """The allocation's bytes themselves, no copy."""
        first = allocation.address - _FIRST_ADDRESS
        return _words("<u1")[first : first + allocation.size]

    def load(self, addresses: Addresses, mask: Mask | None, *, size: int) -> Dwords:
        """``size`` bytes a lane, little-endian, as ``(max(size // 4, 1), *shape)`` dwords.

        ``size`` is 1, 2 (zero-extended) or a multiple of 4. Any alignment is allowed.
        """
        active, flat = _active(addresses, mask)
        self._check("load", flat, size, active, addresses.shape)
        if self.record is not None:
            self.record.read(flat, size)
        data = _dwords(_words(f"V{size}")[flat.view(np.int64) - _FIRST_ADDRESS], size)
        if active is None:
            return np.ascontiguousarray(np.moveaxis(data.reshape(*addresses.shape, -1), -1, 0))
        loaded = np.zeros((data.shape[-1], *addresses.shape), np.uint32)
        loaded[:, active] = data.T
        return loaded

    def store(self, addresses: Addresses, mask: Mask | None, data: Dwords, *, size: int) -> None:
        """Write the low ``size`` bytes a lane of ``data (max(size // 4, 1), *shape)``.

        Where lanes overlap, the last in index order wins; hardware leaves it open.
        """
        active, flat = _active(addresses, mask)
        self._check("store", flat, size, active, addresses.shape)
        if self.record is not None:
            self.record.write(flat, size)
        rows = data.reshape(len(data), -1) if active is None else data[:, active]
        if size < 4:
            values = rows[0].astype(f"<u{size}").view(f"V{size}")
        else:
            values = np.ascontiguousarray(rows.T).view(f"V{size}").reshape(-1)
        _words(f"V{size}")[flat.view(np.int64) - _FIRST_ADDRESS] = values

    def atomic(
        self, operation: str, addresses: Addresses, mask: Mask | None, data: Dwords
    ) -> Dwords:
        """Read, combine with ``data``, write; lanes one after another, in index order.

        Args:
            operation: a name of ``atomics.OPERATIONS``, such as ``add_u32``.
            data: ``(dwords, *shape)``; for ``cmpswap`` the new value first, then the one compared
                with, as in the instruction's data registers.

        Returns:
            the values before, ``(dwords of one value, *shape)``.
        """
        chosen = operation_named(operation)
        active, flat = _active(addresses, mask)
        self._check("atomic", flat, chosen.size, active, addresses.shape)
        rows = data.reshape(len(data), -1) if active is None else data[:, active]
        before = read_modify_write(
            _words(f"<u{chosen.size}"), flat.view(np.int64) - _FIRST_ADDRESS, chosen, rows
        )
        if active is None:
            return before.reshape(-1, *addresses.shape)
        loaded = np.zeros((len(before), *addresses.shape), np.uint32)
        loaded[:, active] = before
        return loaded

    def _add(self, allocation: Allocation) -> Allocation:
        if allocation.size == 0:
            return allocation
        if allocation.address < _FIRST_ADDRESS or allocation.end > _ADDRESS_SPACE:
            raise ValueError(
                f"{allocation.name!r}: bytes {allocation.address:#x} to {allocation.end:#x} are "
                f"not all between {_FIRST_ADDRESS:#x} and {_ADDRESS_SPACE:#x}"
            )
        index = bisect.bisect_left(self._starts, allocation.address)
        for other in self._allocations[max(index - 1, 0) : index + 1]:
            if (other.address, other.size) == (allocation.address, allocation.size):
                return other
            if other.address < allocation.end and allocation.address < other.end:
                raise ValueError(f"{allocation} overlaps {other}")
        self._allocations.insert(index, allocation)
        self._starts.insert(index, allocation.address)
        self._bounds = None
        return allocation

    def _nearest(self, address: int) -> Allocation | None:
        index = bisect.bisect_right(self._starts, address)
        return self._allocations[index - 1] if index else None

    def _check(
        self,
        access: str,
        flat: Addresses,
        size: int,
        active: Mask | None,
        shape: tuple[int, ...],
    ) -> None:
        if not flat.size:
            return
        nearest = self._nearest(int(flat.min()))
        if nearest is not None and int(flat.max()) + size <= nearest.end:
            return  # one allocation holds them all
        if self._bounds is None:
            starts = np.array(self._starts, np.uint64)
            ends = np.array([a.end for a in self._allocations], np.uint64)
            self._bounds = starts, ends
        starts, ends = self._bounds
        index = starts.searchsorted(flat, "right").astype(np.int64) - 1
        inside = index >= 0
        if starts.size:
            room = ends[index] - np.minimum(flat, ends[index])
            inside &= room >= size
        if inside.all():
            return
        faulting = np.flatnonzero(~inside)
        address = int(flat[faulting[0]])
        positions = np.argwhere(np.ones(shape, bool) if active is None else active)
        raise MemoryFault(
            access,
            size,
            address=address,
            allocation=self._nearest(address),
            lanes=[tuple(map(int, position)) for position in positions[faulting]],
        )


def _active(addresses: Addresses, mask: Mask | None) -> tuple[Mask | None, Addresses]:
    """The mask, None where it holds nothing back, and the addresses that it lets through, 1-D."""
    if mask is None or np.count_nonzero(mask) == mask.size:
        return None, np.ascontiguousarray(addresses, np.uint64).reshape(-1)
    return mask, addresses[mask].astype(np.uint64, copy=False)


def _dwords(words: NDArray[Any], size: int) -> Dwords:
    """Void elements of ``size`` bytes -> ``(n, dwords)``."""
    if size < 4:
        return words.view(f"<u{size}").astype(np.uint32)[:, None]
    return words.view("<u4").reshape(len(words), size // 4)


class _AllMemory:
    """Every address of the process as an element: element i begins i bytes after the first."""

    def __init__(self, kind: str) -> None:
        self.__array_interface__ = {
            "data": (_FIRST_ADDRESS, False),
            "shape": (_ADDRESS_SPACE - _FIRST_ADDRESS - 256,),
            "strides": (1,),
            "typestr": kind if kind[0] == "<" else f"|{kind}",
            "version": 3,
        }


_WORDS: dict[str, NDArray[Any]] = {}


def _words(kind: str) -> NDArray[Any]:
    if kind not in _WORDS:
        _WORDS[kind] = np.asarray(_AllMemory(kind))
    return _WORDS[kind]
