"""Loads that go straight to the LDS, from their issue to the wait that tells that they are done.

The emulator writes what they bring at once. On hardware the bytes change at any time until the wave
that issued the load has waited for it, and may be accessed then: by that wave itself, and by others
of its workgroup behind a barrier that comes after the wait. So such a load holds its bytes until
the wait, and an access to them is refused. If they are accessed between the wait and the next
barrier, they count as written once more, so that another wave that reads them there is a race.

Vector memory instructions of a wave that count the same counter are done in order, stores included
on CDNA: a wait for n leaves at most the last n (CDNA3 ISA, section 4.4, S_WAITCNT).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.byte_views import ByteViews
from moeproof.amd.lds_record import LdsRecord

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

MOST_UNDER_WAY = 63
"""A wave stops issuing while its counter is at this value: older instructions are done."""


class UnfinishedLoadError(Exception):
    """An access to bytes of the LDS that a load, which was not waited for, may still write.

    Attributes: ``load``, the instruction in words; ``byte``, the first one, within the workgroup's
    LDS; ``workgroup`` of the gang; ``wave`` of the workgroup, the one that issued the load.
    """

    def __init__(self, access: str, *, load: str, byte: int, workgroup: int, wave: int) -> None:
        self.load, self.byte, self.workgroup, self.wave = load, byte, workgroup, wave
        super().__init__(
            f"LDS {access} at byte {byte} of workgroup {workgroup}, which {load} of wave {wave} "
            "may still write: that wave has not waited for it"
        )


@dataclass
class _Load:
    """One load of several waves.

    by: the instruction in words. numbers: how many counted instructions each wave of the gang had
    issued, this one included. waves, mask: those of the gang that load, and their lanes. Of each
    such lane: positions of its ``size`` bytes, and own, the wave in the workgroup. first, end:
    all bytes are in this range of their workgroup's LDS. pending: the waves of the gang that have
    not waited for it. held: those that had not at the last barrier, or when it was looked at last.
    """

    by: str
    numbers: Indices
    waves: Indices
    mask: Mask
    positions: Indices
    own: Indices
    size: int
    first: int
    end: int
    pending: Mask
    held: Mask

    def lanes_of(self, chosen: Mask) -> Mask:
        """Of each lane that loads, whether its wave is among the chosen ones of the gang."""
        return np.broadcast_to(chosen[self.waves][:, None], self.mask.shape)[self.mask]


class DirectLoads:
    """The loads of a gang's waves to the LDS that may be under way.

    Positions count bytes over all workgroups, ``stride`` to each.
    """

    def __init__(self, record: LdsRecord, *, waves: int, workgroups: int, stride: int) -> None:
        self._record = record
        self._stride = stride
        self._issued = np.zeros(waves, np.int64)
        self._marked = ByteViews(np.zeros(workgroups * stride, np.uint8))
        self._loads: list[_Load] = []

    @property
    def none(self) -> bool:
        """Whether no access needs ``require_done``."""
        return not self._loads

    def count(self, waves: Indices) -> None:
        """These waves issue a vector memory instruction, whatever it does, that a wait counts."""
        self._issued[waves] += 1

    def begin(
        self,
        by: str,
        waves: Indices,
        mask: Mask,
        *,
        positions: Indices,
        own: Indices,
        size: int,
        within: tuple[int, int],
    ) -> None:
        """A load, counted already, is under way to ``size`` bytes from each position on.

        Args:
            by: the instruction, in words.
            waves: of the gang, that execute it. mask: their active lanes ``(w, lanes)``.
            positions, own: of each active lane; own is its wave in the workgroup.
            within: first byte and end of a range of the workgroup's LDS that has all of them.
        """
        pending = np.zeros(len(self._issued), bool)
        pending[waves] = True
        load = _Load(
            by=by,
            numbers=self._issued.copy(),
            waves=waves,
            mask=mask,
            positions=positions,
            own=own,
            size=size,
            first=within[0],
            end=within[1],
            pending=pending,
            held=pending.copy(),
        )
        self._loads.append(load)

    def wait(self, waves: Indices, left: int) -> None:
        """These waves go on when at most ``left`` of their counted instructions are under way."""
        for load in self._loads:
            load.pending[waves] &= self._issued[waves] - load.numbers[waves] < left

    def barrier(self) -> None:
        """All waves have met: what each had waited for is there for the others too."""
        for load in self._loads:
            load.held &= load.pending
        self._loads = [load for load in self._loads if load.held.any()]

    def require_done(
        self, access: str, positions: Indices, size: int, *, within: tuple[int, int]
    ) -> None:
        """Raises UnfinishedLoadError if a load to one of these bytes may be under way.

        Args:
            access: in words.
            positions: of each lane that accesses ``size`` bytes.
            within: as for ``begin``; most accesses are far from the loads under way.
        """
        first, end = within
        near = [load for load in self._loads if load.first < end and first < load.end]
        if not near:
            return
        self.wait(np.arange(len(self._issued)), MOST_UNDER_WAY)
        for load in near:
            self._arrive(load)
            lanes = load.lanes_of(load.pending)
            if lanes.any():
                self._compare(access, positions, size, load, lanes)
        self._loads = [load for load in self._loads if load.held.any()]

    def _arrive(self, load: _Load) -> None:
        """Of the waves that have waited for a load since the barrier, it is written once more."""
        lanes = load.lanes_of(load.held & ~load.pending)
        if lanes.any():
            self._record.arrive(load.own[lanes], load.positions[lanes], load.size)
            load.held &= load.pending

    def _compare(
        self, access: str, positions: Indices, size: int, load: _Load, lanes: Mask
    ) -> None:
        """Raises UnfinishedLoadError if some bytes are among those of a load's lanes."""
        self._mark(load.positions[lanes], load.size, 1)
        held = self._marked.get(positions, size)
        self._mark(load.positions[lanes], load.size, 0)
        if held.any():
            lane, part = (int(index) for index in np.argwhere(held)[0])
            position = int(positions[lane]) + part
            workgroup, byte = divmod(position, self._stride)
            hit = lanes & (load.positions <= position) & (position < load.positions + load.size)
            wave = int(load.own[hit][0])
            raise UnfinishedLoadError(
                access, load=load.by, byte=byte, workgroup=workgroup, wave=wave
            )

    def _mark(self, positions: Indices, size: int, value: int) -> None:
        self._marked.put(positions, size, np.full(size, value, np.uint8))
