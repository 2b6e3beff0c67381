"""Moving values between the lanes of a wave: DPP, permutes, swizzles, single lanes.

Values are ``(w, lanes)`` of any type; ``mask`` is EXEC, bool ``(w, lanes)``, or True for all lanes.
Nothing is written in place: a function returns the moved values, and where an instruction does not
write all active lanes, also the lanes that it writes. So destination and source may be the same
register. Sources: CDNA3 ISA manual, sections 6.8 (DPP) and 12.13 (DS permutes); RDNA3, section
7.7 (DPP, DPP8) and 16.11 (permlane).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_] | bool

ROW = 16


@dataclass(frozen=True, eq=False)
class LaneMove:
    """Lane i takes lane ``source[i]``; False in ``valid`` where that lies out of bounds."""

    source: NDArray[np.int64]
    valid: NDArray[np.bool_]


@cache
def dpp_move(control: int, lanes: int) -> LaneMove:
    """The move that a ``dpp_ctrl`` field asks for, in waves of 32 or 64 lanes.

    Raises:
        ValueError: the value is reserved.
    """
    lane = np.arange(lanes)
    row, place = lane - lane % ROW, lane % ROW
    amount = control & 15
    everywhere = np.ones(lanes, bool)
    if 0 <= control < 0x100:  # quad_perm
        return LaneMove(lane - lane % 4 + (control >> (2 * (lane % 4)) & 3), everywhere)
    if 0x101 <= control <= 0x10F:  # row_shl
        return LaneMove(row + (place + amount) % ROW, place + amount < ROW)
    if 0x111 <= control <= 0x11F:  # row_shr
        return LaneMove(row + (place - amount) % ROW, place >= amount)
    if 0x121 <= control <= 0x12F:  # row_ror
        return LaneMove(row + (place - amount) % ROW, everywhere)
    if 0x150 <= control <= 0x15F:  # row_newbcast, row_share
        return LaneMove(row + amount, everywhere)
    if 0x160 <= control <= 0x16F:  # row_xmask
        return LaneMove(row + (place ^ amount), everywhere)
    moves = {
        0x130: ((lane + 1) % lanes, lane < lanes - 1),  # wave_shl
        0x134: ((lane + 1) % lanes, everywhere),  # wave_rol
        0x138: ((lane - 1) % lanes, lane > 0),  # wave_shr
        0x13C: ((lane - 1) % lanes, everywhere),  # wave_ror
        0x140: (row + 15 - place, everywhere),  # row_mirror
        0x141: (row + (place ^ 7), everywhere),  # row_half_mirror
        0x142: ((row - 1) % lanes, lane >= ROW),  # row_bcast:15
        0x143: (np.full(lanes, 31), lane >= 32),  # row_bcast:31
    }
    if control not in moves:
        raise ValueError(f"dpp_ctrl {control:#x} is reserved")
    return LaneMove(*moves[control])


@cache
def dpp8_move(selects: int, lanes: int) -> LaneMove:
    """DPP8: in each group of eight lanes, lane i takes lane ``selects[3 i + 2 : 3 i]``."""
    lane = np.arange(lanes)
    return LaneMove(lane - lane % 8 + (selects >> (3 * (lane % 8)) & 7), np.ones(lanes, bool))


@cache
def _written_rows(row_mask: int, bank_mask: int, lanes: int) -> NDArray[np.bool_]:
    lane = np.arange(lanes)
    return (row_mask >> (lane // ROW) & bank_mask >> (lane % ROW // 4) & 1).astype(bool)


def moved(
    value: Array,
    mask: Mask,
    move: LaneMove,
    *,
    bound_control: bool,
    fetch_inactive: bool = False,
    row_mask: int = 15,
    bank_mask: int = 15,
) -> tuple[Array, Mask]:
    """What each lane takes, and which lanes the instruction writes.

    A lane cannot take what lies out of bounds, nor from an inactive lane unless ``fetch_inactive``.
    It then takes 0 if ``bound_control`` and otherwise is not written. Bit n of ``row_mask`` allows
    lanes 16 n to 16 n + 15 to be written, bit n of ``bank_mask`` lanes 4 n to 4 n + 3 of each row.
    """
    taken = value[..., move.source]
    valid: Mask = True
    if not move.valid.all():
        valid = move.valid
    if mask is not True and not fetch_inactive:
        valid = np.asarray(mask)[..., move.source] & valid
    written = mask
    if row_mask & bank_mask != 15:
        written = np.broadcast_to(
            _written_rows(row_mask, bank_mask, len(move.source)) & mask, taken.shape
        )
    if valid is True:
        return taken, written
    if bound_control:
        return np.where(valid, taken, value.dtype.type(0)), written
    return taken, np.broadcast_to(np.asarray(written) & valid, taken.shape)


def permlane16(
    value: Array,
    mask: Mask,
    low: Array,
    high: Array,
    *,
    other_row: bool,
    bound_control: bool,
    fetch_inactive: bool,
) -> tuple[Array, Mask]:
    """``v_permlane16_b32``, and with ``other_row`` ``v_permlanex16_b32``; returns as ``moved``.

    Four bits for each lane of a row, of ``low`` for the first eight and of ``high`` for the others,
    select a lane of the same row, or of its neighbour (rows 0 and 1, 2 and 3).

    Args:
        low, high: uint32, ``(w, 1)`` or ``()``. bound_control: op_sel's second bit.
        fetch_inactive: its first.
    """
    lanes = value.shape[-1]
    lane = np.arange(lanes)
    shifts = (4 * (lane % 8)).astype(np.uint32)
    nibbles = np.where(lane % ROW < 8, low >> shifts, high >> shifts) & np.uint32(15)
    rows = (lane - lane % ROW) ^ (ROW if other_row else 0)
    source = np.broadcast_to(rows + nibbles.astype(np.int64), value.shape)
    taken = np.take_along_axis(value, source, axis=-1)
    if mask is True or fetch_inactive:
        return taken, mask
    valid = np.take_along_axis(np.asarray(mask), source, axis=-1)
    if bound_control:
        return np.where(valid, taken, value.dtype.type(0)), mask
    return taken, valid & mask


def permlane_swap(first: Array, second: Array, mask: Mask, *, rows: int) -> tuple[Array, Array]:
    """gfx950's ``v_permlane16_swap_b32`` and ``v_permlane32_swap_b32``: both registers, after.

    Of each 2 * ``rows`` lanes, the upper half of ``first`` (vdst) and the lower half of ``second``
    (src0) change places. Consistent with Triton's use, not verified.

    Raises:
        ValueError: a lane is inactive; the manual leaves open what then happens.
    """
    if mask is not True and not np.all(mask):
        raise ValueError("v_permlane*_swap with inactive lanes is not modelled")
    blocks = (*first.shape[:-1], -1, 2, rows)
    one, two = first.reshape(blocks), second.reshape(blocks)
    new_first = np.stack((one[..., 0, :], two[..., 0, :]), axis=-2)
    new_second = np.stack((one[..., 1, :], two[..., 1, :]), axis=-2)
    return new_first.reshape(first.shape), new_second.reshape(second.shape)


def bpermute(address: Array, value: Array, mask: Mask, *, offset: int = 0) -> Array:
    """``ds_bpermute_b32``: each lane takes from lane ``(address + offset) / 4``, modulo lanes.

    From an inactive lane it takes 0. ``address``: uint32 ``(w, lanes)``.
    """
    source = _lane_of(address, offset, value.shape[-1])
    taken = np.take_along_axis(value, source, axis=-1)
    if mask is True:
        return taken
    active = np.take_along_axis(np.asarray(mask), source, axis=-1)
    return np.where(active, taken, value.dtype.type(0))


def permute(address: Array, value: Array, mask: Mask, *, offset: int = 0) -> Array:
    """``ds_permute_b32``: each active lane gives to lane ``(address + offset) / 4``, modulo lanes.

    The highest of several wins; a lane that nobody gives to takes 0.
    """
    lanes = value.shape[-1]
    target = _lane_of(address, offset, lanes)
    if mask is not True:
        target = np.where(mask, target, lanes)
    taken = np.zeros((*value.shape[:-1], lanes + 1), value.dtype)
    # numpy assigns in index order, so the last, highest lane stays.
    np.put_along_axis(taken, target, value, axis=-1)
    return np.ascontiguousarray(taken[..., :lanes])


def swizzle(value: Array, mask: Mask, *, offset: int) -> Array:
    """``ds_swizzle_b32`` in its bit mask and quad modes; from an inactive lane a lane takes 0.

    Raises:
        ValueError: one of the newer modes (rotation, FFT).
    """
    lane = np.arange(value.shape[-1])
    if offset >= 0xC000:
        raise ValueError(f"ds_swizzle_b32 offset {offset:#x}: rotation and FFT are not modelled")
    if offset & 0x8000:
        source = lane - lane % 4 + (offset >> (2 * (lane % 4)) & 3)
    else:
        kept, forced, flipped = offset & 31, offset >> 5 & 31, offset >> 10 & 31
        source = (lane & ~31) | ((lane & kept | forced) ^ flipped)
    move = LaneMove(source, np.ones(len(lane), bool))
    taken, _ = moved(value, mask, move, bound_control=True)
    return taken


def read_first_lane(value: Array, mask: Mask) -> Array:
    """The lowest active lane's value ``(w,)``; lane 0's if none is active."""
    if mask is True:
        return value[..., 0]
    first = np.argmax(np.broadcast_to(mask, value.shape), axis=-1)
    return np.take_along_axis(value, first[..., None], axis=-1)[..., 0]


def read_lane(value: Array, lane: Array) -> Array:
    """The value of one lane of each wave, active or not: ``(w,)``.

    ``lane`` is uint32, ``(w, 1)`` or ``()``, taken modulo the number of lanes.
    """
    index = np.broadcast_to(lane, (*value.shape[:-1], 1)).astype(np.int64) % value.shape[-1]
    return np.take_along_axis(value, index, axis=-1)[..., 0]


def write_lane(register: Array, lane: Array, value: Array) -> Array:
    """``register`` with one lane replaced, active or not; ``value`` and ``lane`` as ``(w, 1)``."""
    index = np.broadcast_to(lane, (*register.shape[:-1], 1)).astype(np.int64) % register.shape[-1]
    written = register.copy()
    np.put_along_axis(written, index, np.broadcast_to(value, index.shape), axis=-1)
    return written


def _lane_of(address: Array, offset: int, lanes: int) -> NDArray[np.int64]:
    return ((address + np.uint32(offset)) // np.uint32(4) % np.uint32(lanes)).astype(np.int64)
