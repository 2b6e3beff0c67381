"""Which bytes of memory some workgroups read and wrote, and whether others met them there."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.byte_views import ByteViews
from moeproof.amd.memory import Addresses, AddressSpace, Allocation, Mask

_READ, _WRITTEN = 1, 2


class WorkgroupRaceError(Exception):
    """Workgroups met at the same bytes of global memory, and what one of them did is a store."""


class AccessRecord:
    """Takes note of plain accesses to some allocations; those to others are ignored.

    The notes are in memory that processes forked afterwards share: what one of them notes, its
    parent sees. Positions count the allocations' bytes, one allocation after another.
    """

    def __init__(self, allocations: Sequence[Allocation]) -> None:
        self._allocations = tuple(allocations)
        self._starts = np.array([a.address for a in allocations], np.uint64)
        self._ends = np.array([a.end for a in allocations], np.uint64)
        self._first = np.cumsum([0, *(a.size for a in allocations)], dtype=np.int64)
        size = int(self._first[-1])
        self.notes = ByteViews(_shared(size))
        self.values = _shared(size)

    def read(self, addresses: Addresses, size: int) -> None:
        """``size`` bytes from each address ``(n,)`` on, each wholly inside one allocation.

        Bytes that were written before are not noted: what was read there is the reader's own.
        """
        positions, words = self._positions(addresses), self.notes.words(size)
        before = words[positions].view(np.uint8)
        words[positions] = (before | (before == 0)).view(f"V{size}")

    def write(self, addresses: Addresses, size: int) -> None:
        """Arguments as for ``read``."""
        positions, words = self._positions(addresses), self.notes.words(size)
        words[positions] = (words[positions].view(np.uint8) | _WRITTEN).view(f"V{size}")

    def keep_values(self, memory: AddressSpace) -> None:
        """Copy what the written bytes hold now to ``values``."""
        for allocation, part in self.parts():
            written = self.notes.flat[part] & _WRITTEN != 0
            np.copyto(self.values[part], memory.contents(allocation), where=written)

    def parts(self) -> Iterator[tuple[Allocation, slice]]:
        """Each allocation, and its positions."""
        for allocation, first in zip(self._allocations, self._first, strict=False):
            yield allocation, slice(int(first), int(first) + allocation.size)

    def _positions(self, addresses: Addresses) -> NDArray[np.int64]:
        index = self._starts.searchsorted(addresses, "right").astype(np.int64) - 1
        known = (index >= 0) & (addresses < self._ends[index])
        if not known.all():
            addresses, index = addresses[known], index[known]
        return (addresses - self._starts[index]).astype(np.int64) + self._first[index]


def merge(
    memory: AddressSpace, records: Sequence[AccessRecord], *, names: Sequence[str]
) -> list[str]:
    """Add to memory what each record's workgroups wrote, in turn; the races between them, in words.

    A race: one wrote a byte that another read before any write of its own, or two wrote different
    values to a byte.

    Args:
        memory: holds already what the first record's workgroups wrote.
        records: of the same allocations, all but the first with their values kept.
        names: of each record's workgroups, for people.
    """
    races: list[str] = []
    for allocation, part in records[0].parts():
        notes = [record.notes.flat[part] for record in records]
        written = [note & _WRITTEN != 0 for note in notes]
        if not any(mask.any() for mask in written):
            continue
        contents = memory.contents(allocation)
        by_any, by_several = written[0].copy(), np.zeros(allocation.size, bool)
        racing: list[tuple[int, str, Mask]] = []
        for number in range(1, len(records)):
            mask, values = written[number], records[number].values[part]
            both = by_any & mask
            racing.append((number, "wrote with another value", both & (values != contents)))
            np.copyto(contents, values, where=mask)
            by_several |= both
            by_any |= mask
        for number, (note, mask) in enumerate(zip(notes, written, strict=True)):
            by_others = by_several | (by_any & ~mask)
            racing.append((number, "read", by_others & (note & _READ != 0)))
        for number, did, found in racing:
            if found.any():
                byte = int(found.argmax())
                other = next(i for i, mask in enumerate(written) if i != number and mask[byte])
                races.append(
                    f"{names[other]} wrote byte {byte} of {allocation.name!r}, which "
                    f"{names[number]} {did} ({np.count_nonzero(found)} bytes)"
                )
    return races


def _shared(size: int) -> NDArray[np.uint8]:
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]
