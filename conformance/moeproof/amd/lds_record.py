"""Races in the LDS: bytes that two waves touched with no barrier in between.

Whatever order the waves really run in, the accesses between two barriers are unordered, so the
record is kept as sets (which wave read, wrote, or updated each byte) and judged at the barrier.

Waves may write a byte twice if they write the same value: layouts that replicate data do that. A
wave that reads a byte which it has itself written is therefore not held against others that wrote
the same value; a read before its own write goes unseen in that one case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.byte_views import ByteViews

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class LdsRace:
    """Bytes of one workgroup that one kind of race met between two barriers.

    Attributes:
        workgroup: index in the gang. interval: barriers that the workgroup had passed before.
        kind: "read and write", "different values written" or "atomic and plain access".
        first_byte: the lowest one; num_bytes: how many there are.
        waves: of the workgroup, that touched the first byte.
    """

    workgroup: int
    interval: int
    kind: str
    first_byte: int
    num_bytes: int
    waves: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"LDS race in workgroup {self.workgroup} after barrier {self.interval}: {self.kind} of "
            f"{self.num_bytes} bytes from byte {self.first_byte} on, by waves {list(self.waves)}"
        )


class LdsRecord:
    """Who touched which byte since the last barrier.

    Positions count bytes over all workgroups, ``stride`` (a multiple of 8) to each; all arrays
    have one entry a lane.
    """

    def __init__(self, workgroup_of_wave: NDArray[np.integer[Any]], stride: int) -> None:
        workgroups = int(workgroup_of_wave.max()) + 1
        self.wave_in_workgroup = np.array(
            [np.count_nonzero(workgroup_of_wave[:i] == g) for i, g in enumerate(workgroup_of_wave)]
        )
        self.races: list[LdsRace] = []
        self._stride = stride
        self._bytes = workgroups * stride
        self._intervals = [0] * workgroups
        # Since the workgroup's last barrier: read and written at all, by any workgroup.
        self._has_read, self._has_written = np.zeros((2, workgroups), bool)
        self._updates = False
        waves = int(self.wave_in_workgroup.max()) + 1
        self._read = ByteViews(np.zeros((waves, self._bytes), np.uint8))
        self._written = ByteViews(np.zeros((waves, self._bytes), np.uint8))
        self._updated = ByteViews(np.zeros((waves, self._bytes), np.uint8))
        self._last_writer = ByteViews(np.zeros(self._bytes, np.uint8))  # wave in workgroup + 1
        self._clashed = ByteViews(np.zeros(self._bytes, np.uint8))

    def read(self, lanes_wave: NDArray[np.int64], positions: Positions, size: int) -> None:
        """``lanes_wave``: wave in the workgroup, of each lane or one that broadcasts."""
        self._has_read[:] = True
        self._read.put(positions + lanes_wave * self._bytes, size, np.ones(size, np.uint8))

    def update(self, lanes_wave: NDArray[np.int64], positions: Positions, size: int) -> None:
        """Atomically; arguments as for ``read``."""
        self._updates = True
        self._updated.put(positions + lanes_wave * self._bytes, size, np.ones(size, np.uint8))

    def clash(self, positions: Positions, differs: NDArray[np.bool_]) -> None:
        """Different values went to ``differs (lanes, size)`` of the bytes at ``positions``."""
        if differs.any():
            lanes, byte = np.nonzero(differs)
            self._clashed.flat[positions[lanes] + byte] = 1

    def write(
        self,
        lanes_wave: NDArray[np.int64],
        positions: Positions,
        size: int,
        *,
        before: NDArray[np.uint8],
        value: NDArray[np.uint8],
    ) -> None:
        """``before`` and ``value``: the bytes ``(lanes, size)``."""
        self._has_written[:] = True
        writers = self._last_writer.get(positions, size)
        own = np.broadcast_to(lanes_wave + 1, positions.shape).astype(np.uint8)[:, None]
        if writers.any():
            self.clash(positions, (writers != 0) & (writers != own) & (before != value))
        self._last_writer.put(positions, size, np.repeat(own, size, axis=1))
        self._written.put(positions + lanes_wave * self._bytes, size, np.ones(size, np.uint8))

    def arrive(self, lanes_wave: NDArray[np.int64], positions: Positions, size: int) -> None:
        """The wave's earlier store may have happened only now; arguments as for ``read``."""
        self._has_written[:] = True
        self._written.put(positions + lanes_wave * self._bytes, size, np.ones(size, np.uint8))

    def settle(self, workgroup: int) -> None:
        """Judge what this workgroup did since its last barrier, and forget it."""
        part = slice(workgroup * self._stride, (workgroup + 1) * self._stride)
        read = self._read.array[:, part].view(np.uint64)
        written = self._written.array[:, part].view(np.uint64)
        clashed = self._clashed.array[part].view(np.uint64)
        has_read, has_written = self._has_read[workgroup], self._has_written[workgroup]
        if has_read and has_written:
            stale = np.bitwise_or.reduce(read & ~written) & np.bitwise_or.reduce(written)
            self._report("read and write", workgroup, stale)
        if has_written:
            self._report("different values written", workgroup, clashed)
        if self._updates:
            updated = self._updated.array[:, part].view(np.uint64)
            plain = read | written
            mixed = np.bitwise_or.reduce(updated) & np.bitwise_or.reduce(plain)
            self._report("atomic and plain access", workgroup, mixed & _by_several(updated | plain))
            updated[...] = 0
        if has_read:
            read[...] = 0
        if has_written:
            written[...] = clashed[...] = 0
            self._last_writer.array[part] = 0
        self._has_read[workgroup] = self._has_written[workgroup] = False
        self._intervals[workgroup] += 1

    def _report(self, kind: str, workgroup: int, found: NDArray[np.uint64]) -> None:
        if not found.any():
            return
        racing = np.flatnonzero(found.view(np.uint8))
        at = workgroup * self._stride + int(racing[0])
        touched = [record.array[:, at] for record in (self._read, self._written, self._updated)]
        self.races.append(
            LdsRace(
                workgroup=workgroup,
                interval=self._intervals[workgroup],
                kind=kind,
                first_byte=int(racing[0]),
                num_bytes=len(racing),
                waves=tuple(map(int, np.flatnonzero(np.bitwise_or.reduce(touched)))),
            )
        )


def _by_several(touched: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bytes that more than one row has; each byte is 0 or 1."""
    once = np.zeros(touched.shape[1:], np.uint64)
    several = np.zeros_like(once)
    for row in touched:
        np.bitwise_or(several, once & row, out=several)
        np.bitwise_or(once, row, out=once)
    return several
