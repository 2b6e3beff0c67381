"""Local data share: the shared memory of each workgroup of a gang.

Unwritten bytes hold a poison that is NaN in fp32, bf16 and fp16, and reads of them are counted;
``races`` says which bytes two waves touched without a barrier between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.atomics import operation_named, read_modify_write
from moeproof.amd.byte_views import ByteViews
from moeproof.amd.direct_loads import DirectLoads
from moeproof.amd.lds_record import LdsRace, LdsRecord
from moeproof.amd.transfers import Transfer

Dwords = NDArray[np.uint32]
Mask = NDArray[np.bool_]
Waves = NDArray[np.int64]
_Found = tuple[bool, NDArray[np.int64], NDArray[np.int64]]

POISON = 0xFF
_DIRECT = "direct load"


class LdsFault(Exception):  # noqa: N818 - as MemoryFault
    """An access past the end of the workgroup's LDS; hardware would read 0 and drop the store.

    Attributes: ``access``, ``size`` in bytes, ``offset`` of the first faulting lane, ``limit``, and
    ``lanes``, the (wave, lane) of each faulting lane.
    """

    def __init__(
        self, access: str, size: int, *, offset: int, limit: int, lanes: Sequence[tuple[int, int]]
    ) -> None:
        self.access, self.size, self.offset, self.limit = access, size, offset, limit
        self.lanes = list(lanes)
        others = f" and {len(self.lanes) - 1} more" if len(self.lanes) > 1 else ""
        super().__init__(
            f"LDS {access} of {size} bytes at byte {offset} of {limit} "
            f"((wave, lane) {self.lanes[0]}{others})"
        )


class Lds:
    """The LDS of every workgroup of a gang, and vectorised access to it.

    Every access takes ``waves``, the indices in the gang of the waves that execute ``(w,)``;
    ``addresses``, uint32 bytes within the workgroup's LDS ``(w, lanes)``; and ``mask``, bool
    ``(w, lanes)``: a lane whose mask is False touches nothing and loads 0. Registers are
    ``(dwords, w, lanes)``. ``LdsFault`` is raised for an active lane past the end, and
    ``UnfinishedLoadError`` for one at bytes to which a load is under way.

    Attributes:
        size: bytes a workgroup. contents: uint8 ``(workgroups, size)``.
        direct_loads: the loads under way straight to the LDS.
        unwritten_reads: lanes that have read a byte to which nothing was written. Not an error by
            itself: compilers let lanes load values that they then throw away.
    """

    def __init__(self, *, workgroup_of_wave: NDArray[np.integer[Any]], size: int) -> None:
        workgroups = int(workgroup_of_wave.max()) + 1
        stride = -(-size // 8) * 8
        self.size = size
        self.unwritten_reads = 0
        self._bytes = ByteViews(np.full((workgroups, stride), POISON, np.uint8))
        self.contents = self._bytes.array[:, :size]
        self._written = ByteViews(np.zeros((workgroups, stride), np.uint8))
        self._written.array[:, size:] = 1
        self._all_written = size == 0
        self._base = workgroup_of_wave.astype(np.int64)[:, None] * stride
        self._record = LdsRecord(workgroup_of_wave, stride)
        self._wave_in_workgroup = self._record.wave_in_workgroup[:, None]
        self.direct_loads = DirectLoads(
            self._record, waves=len(workgroup_of_wave), workgroups=workgroups, stride=stride
        )

    @property
    def races(self) -> tuple[LdsRace, ...]:
        """Those found at the barriers so far."""
        return tuple(self._record.races)

    def barrier(self, workgroups: Sequence[int]) -> None:
        """All waves of these workgroups have met; also to be called when a workgroup ends."""
        for workgroup in workgroups:
            self._record.settle(workgroup)
        self.direct_loads.barrier()
        if not self._all_written:
            self._all_written = bool(self._written.array.all())

    def load(
        self,
        transfer: Transfer,
        waves: Waves,
        addresses: Dwords,
        mask: Mask,
        *,
        offsets: tuple[int, int] = (0, 0),
        old: Dwords | None = None,
    ) -> Dwords:
        """What the destination registers hold after a DS read.

        Args:
            offsets: the instruction's; the second is for two addresses.
            old: the registers before, for a load into half of one.

        Raises:
            ValueError: a transposing read with a lane masked off, or of 6-bit elements.
        """
        unit = transfer.offset_unit
        value = self._load(waves, _offset(addresses, offsets[0] * unit), mask, transfer.size)
        if transfer.two_addresses:
            second = self._load(waves, _offset(addresses, offsets[1] * unit), mask, transfer.size)
            value = np.concatenate((value, second))
        if transfer.transposed is not None:
            if not mask.all():
                raise ValueError("mask: a transposing LDS read needs all lanes")
            value = transpose(value, element_bits=transfer.transposed)
        return transfer.loaded(value, old)

    def store(
        self,
        transfer: Transfer,
        waves: Waves,
        addresses: Dwords,
        mask: Mask,
        data: Dwords,
        *,
        offsets: tuple[int, int] = (0, 0),
    ) -> None:
        """A DS write of ``data (dwords, w, lanes)``: for two addresses, both values in turn."""
        unit, data = transfer.offset_unit, transfer.stored(data)
        halves = np.split(data, 2) if transfer.two_addresses else [data]
        for half, offset in zip(halves, offsets, strict=False):
            at = _offset(addresses, offset * unit)
            found = self._positions("store", waves, at, mask, transfer.size)
            self._store(found, mask, half, transfer.size)

    def store_direct(
        self,
        waves: Waves,
        m0: NDArray[np.uint32],
        mask: Mask,
        data: Dwords,
        *,
        offset: int,
        size: int,
        by: str,
    ) -> None:
        """Take a vector memory load that goes to the LDS (CDNA3 section 9.1.9).

        Lane i's ``size`` bytes go to ``m0 (w,)`` (its low 18 bits) + ``offset`` + i * ``size``. It
        stays under way until a wait; ``by`` is the instruction in words.
        """
        start = (m0 & np.uint32(0x3FFFF)) + np.uint32(offset)
        lanes = np.arange(mask.shape[1], dtype=np.uint32) * np.uint32(size)
        found = self._positions(_DIRECT, waves, start[:, None] + lanes, mask, size)
        self._store(found, mask, data, size)
        _, positions, own = found
        self.direct_loads.begin(
            by,
            waves,
            mask,
            positions=positions,
            own=own,
            size=size,
            within=(int(start.min()), int(start.max()) + mask.shape[1] * size),
        )

    def atomic(
        self,
        operation: str,
        waves: Waves,
        addresses: Dwords,
        mask: Mask,
        data: Dwords,
        *,
        offset: int = 0,
    ) -> Dwords:
        """As ``AddressSpace.atomic``: the values before, ``(dwords of one value, w, lanes)``."""
        chosen = operation_named(operation)
        addresses = _offset(addresses, offset)
        every, positions, own = self._positions("atomic", waves, addresses, mask, chosen.size)
        rows = data.reshape(len(data), -1) if every else data[:, mask]
        before = read_modify_write(self._bytes.words(chosen.size, "u"), positions, chosen, rows)
        self._written.put(positions, chosen.size, np.ones(chosen.size, np.uint8))
        self._record.update(own, positions, chosen.size)
        return _spread(before, mask, every)

    def _load(self, waves: Waves, addresses: Dwords, mask: Mask, size: int) -> Dwords:
        every, positions, own = self._positions("load", waves, addresses, mask, size)
        data = self._bytes.get(positions, size)
        if not self._all_written:
            written = self._written.get(positions, size)
            self.unwritten_reads += int(np.count_nonzero(~written.all(axis=1)))
        self._record.read(own, positions, size)
        if size < 4:
            return _spread(data.view(f"<u{size}").astype(np.uint32).T, mask, every)
        return _spread(data.view("<u4").T, mask, every)

    def _store(self, found: _Found, mask: Mask, data: Dwords, size: int) -> None:
        every, positions, own = found
        rows = data.reshape(len(data), -1) if every else data[:, mask]
        if size < 4:
            value = rows[0].astype(f"<u{size}").view(np.uint8).reshape(-1, size)
        else:
            value = np.ascontiguousarray(rows.T).view(np.uint8)
        before = self._bytes.get(positions, size)
        self._record.write(own, positions, size, before=before, value=value)
        self._bytes.put(positions, size, value)
        kept = self._bytes.get(positions, size)
        if not np.array_equal(kept, value):  # two lanes of this very instruction
            self._record.clash(positions, kept != value)
        if not self._all_written:
            self._written.put(positions, size, np.ones(size, np.uint8))

    def _positions(
        self, access: str, waves: Waves, addresses: Dwords, mask: Mask, size: int
    ) -> _Found:
        """Whether all lanes are active; of the active ones, byte position and wave.

        Raises LdsFault, UnfinishedLoadError.
        """
        every = np.count_nonzero(mask) == mask.size
        active = addresses if every else addresses[mask]
        if active.size and int(active.max()) > self.size - size:
            beyond = mask & (addresses.astype(np.int64) > self.size - size)
            lanes = [(int(waves[wave]), int(lane)) for wave, lane in np.argwhere(beyond)]
            offset = int(addresses[beyond][0])
            raise LdsFault(access, size, offset=offset, limit=self.size, lanes=lanes)
        positions = addresses + self._base[waves]
        own = np.broadcast_to(self._wave_in_workgroup[waves], positions.shape)
        if every:
            positions, own = positions.reshape(-1), own.reshape(-1)
        else:
            positions, own = positions[mask], own[mask]
        if active.size and access != _DIRECT and not self.direct_loads.none:
            within = int(active.min()), int(active.max()) + size
            self.direct_loads.require_done(access, positions, size, within=within)
        return every, positions, own


def transpose(value: Dwords, *, element_bits: int) -> Dwords:
    """What a transposing read of 64 bits a lane gives, from what each lane's address holds.

    Sixteen lanes together hold rows of 16 elements, each row in neighbouring lanes; lane i of the
    sixteen receives column i. ``value`` and the result: ``(2, w, lanes)``. From the CDNA4 ISA
    manual, section 11.4; consistent with Triton's use of it, not verified against hardware.

    Raises:
        ValueError: elements of other than 4, 8 or 16 bits.
    """
    if element_bits not in (4, 8, 16):
        raise ValueError(f"element_bits: 4, 8 or 16, got {element_bits}")
    words = np.ascontiguousarray(np.moveaxis(value, 0, -1))
    shape = words.shape
    elements: NDArray[Any] = words.view(np.uint16 if element_bits == 16 else np.uint8)
    if element_bits == 4:
        elements = np.stack((elements & np.uint8(15), elements >> np.uint8(4)), axis=-1)
    columns = elements.reshape(-1, 64 // element_bits, 16).swapaxes(1, 2)
    if element_bits == 4:
        columns = columns[..., 0::2] | (columns[..., 1::2] << np.uint8(4))
    packed = np.ascontiguousarray(columns).view(np.uint32).reshape(shape)
    return np.ascontiguousarray(np.moveaxis(packed, -1, 0))


def _offset(addresses: Dwords, offset: int) -> Dwords:
    return addresses + np.uint32(offset) if offset else addresses


def _spread(rows: Dwords, mask: Mask, every: bool) -> Dwords:
    """``(dwords, active lanes)`` -> ``(dwords, w, lanes)``."""
    if every:
        return np.ascontiguousarray(rows).reshape(len(rows), *mask.shape)
    spread = np.zeros((len(rows), *mask.shape), np.uint32)
    spread[:, mask] = rows
    return spread
