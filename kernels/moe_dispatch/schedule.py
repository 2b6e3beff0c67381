"""Which rows of which expert each tile works on, computed on the device.

A *slot* is one (token, k) pair, numbered `token * K + k`. The schedule puts the slots in order of
their expert (within an expert, in order of their number) and cuts each expert's rows into tiles of
BLOCK_M, the last of which may have up to `tail` rows more: a few rows in a tile of their own would
cost another pass over the expert's weights. Experts with such a last tile are the first in the list
of tiles, the others follow, both in order of their number. Slots whose id lies outside [0, E) are
left out. Nothing is padded, nothing is read back to the host: launches that follow are sized for
the worst case that T, K and E allow, and their surplus programs exit.

The schedule is one int32 buffer:

    [0]                    number of tiles
    [1, 1 + M)             expert of each tile              M = max_tiles
    [1 + M, 1 + 2M)        first row of each tile
    [1 + 2M, 1 + 3M)       row after each tile's last one
    [1 + 3M, 1 + 3M + N)   slot of each row                 N = T * K
    [...]                  if asked for: number, experts and rows of tiles again, cut without tails
    [...]                  slots per chunk and expert, while the schedule is built, from the next
                           multiple of 16 bytes on

Slots are placed by counting: a slot's row is the number of slots with a lower expert, plus those of
its own expert in earlier chunks, plus those before it in its chunk. No atomic decides where a slot
goes: the order of the rows is a function of the ids alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from .launch import Launch
from .sizes import cdiv, next_power_of_2
from .target import INTERPRETED, device_function
from .tensor_spec import TensorSpec

_BLOCK = 1024 if INTERPRETED else 64
"""Slots ranked at once, by comparing each with each."""

_SCAN = 1024
"""Slots counted at once."""

_MAX_CHUNKS = 4 if INTERPRETED else 128
"""Chunks, that is programs, among which the slots are divided."""

_COUNTED_FROM = 8 * _SCAN
"""From this many slots on, another launch counts them first; below, each program counts all."""

_COUNTS = 16384
"""Entries of the chunks' counts that are read at once."""


@device_function
def load_experts(
    ids_ptr, slots, end_slot, stride_t, stride_k, num_experts: tl.constexpr, TOP_K: tl.constexpr
):
    """Each slot's expert as int32; `num_experts` for ids outside [0, E) and slots >= end_slot."""
    token = (slots // TOP_K).to(tl.int64)
    k = (slots % TOP_K).to(tl.int64)
    ids = tl.load(ids_ptr + token * stride_t + k * stride_k, mask=slots < end_slot, other=-1)
    # Compared before the cast: an int64 id may lie outside int32.
    return tl.where((ids >= 0) & (ids < num_experts), ids, num_experts).to(tl.int32)


@device_function
def load_tile(schedule_ptr, tile, max_tiles):
    """(expert, first row, row after the last) of one tile; undefined for a surplus tile."""
    entry = schedule_ptr + 1 + tile
    return tl.load(entry), tl.load(entry + max_tiles), tl.load(entry + 2 * max_tiles)


@device_function
def is_first_of_expert(schedule_ptr, tile, expert):
    """Whether the expert's tiles begin with this one; it is the only one if it is not full."""
    # What stands before the first tile's expert is the number of tiles.
    return (tile == 0) | (tl.load(schedule_ptr + tile) != expert)


@device_function
def load_slots(schedule_ptr, rows, max_tiles):
    """The slots at `rows`, int32."""
    return tl.load(schedule_ptr + 1 + 3 * max_tiles + rows)


@device_function
def tiles_without_tails(schedule_ptr, max_tiles, num_slots):
    """Where the tiles that are cut without tails begin, as the schedule does with the others."""
    return schedule_ptr + 1 + 3 * max_tiles + num_slots


@device_function
def store_tiles(
    schedule_ptr,
    max_tiles,
    total,
    first_row,
    block_m,
    tail,
    chunk,
    num_chunks,
    NUM_EXPERTS: tl.constexpr,
    BINS: tl.constexpr,
):
    """One program's share of the tiles of experts with `total` rows each, from `first_row` on."""
    bins = tl.arange(0, BINS)
    end_row = first_row + total
    tiles = tl.cdiv(tl.maximum(total - tail, tl.minimum(total, 1)), block_m)
    tiles = tl.where(bins < NUM_EXPERTS, tiles, 0)
    # Programs start in the order of their tiles, and the longest should not start last (Graham,
    # "Bounds on multiprocessing timing anomalies", 1969).
    tall_tiles = tl.where(total > tiles * block_m, tiles, 0)
    other_tiles = tiles - tall_tiles
    first_tall_tile = tl.cumsum(tall_tiles, axis=0) - tall_tiles
    first_other_tile = tl.sum(tall_tiles) + tl.cumsum(other_tiles, axis=0) - other_tiles
    first_tile = tl.where(tall_tiles > 0, first_tall_tile, first_other_tile)
    tl.store(schedule_ptr, tl.sum(tiles), mask=chunk == 0)
    for tile in range(chunk, tl.max(tiles), num_chunks):
        entry = schedule_ptr + 1 + first_tile + tile
        exists = tile < tiles
        tl.store(entry, bins, mask=exists)
        first_row_of_tile = first_row + tile * block_m
        end_row_of_tile = tl.where(tile < tiles - 1, first_row_of_tile + block_m, end_row)
        tl.store(entry + max_tiles, first_row_of_tile, mask=exists)
        tl.store(entry + 2 * max_tiles, end_row_of_tile, mask=exists)


@device_function
def tile_of_program(program, num_tiles, column_tiles, GROUP_M: tl.constexpr):
    """(row tile, column tile) of one program in a one-dimensional grid.

    Programs cover GROUP_M row tiles, then move on to the next columns: within a group each weight
    tile and each tile of activations is soon met again in L2. Of the grid, which is sized for the
    worst case, the first num_tiles * column_tiles programs have a tile.
    """
    if GROUP_M == 1:
        return program // column_tiles, program % column_tiles
    group_programs = GROUP_M * column_tiles
    first = (program // group_programs) * GROUP_M
    height = tl.minimum(num_tiles - first, GROUP_M)
    within = program % group_programs
    return first + within % height, within // height


@device_function
def count_slots(
    ids_ptr,
    first_slot,
    end_slot,
    stride_t,
    stride_k,
    NUM_EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    BINS: tl.constexpr,
    SCAN: tl.constexpr,
):
    """(BINS,) int32: how many of the slots from the first to before the end each expert has."""
    counts = tl.zeros((BINS,), dtype=tl.int32)
    for first in range(first_slot, end_slot, SCAN):
        slots = first + tl.arange(0, SCAN)
        experts = load_experts(ids_ptr, slots, end_slot, stride_t, stride_k, NUM_EXPERTS, TOP_K)
        counts += tl.histogram(experts, BINS)
    return counts


@triton.jit(do_not_specialize=["num_slots", "chunk_size"])
def count_kernel(
    ids_ptr,
    counts_ptr,
    num_slots,
    chunk_size,
    stride_t,
    stride_k,
    NUM_EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    BINS: tl.constexpr,
    SCAN: tl.constexpr,
):
    """counts (chunks, BINS) int32: the slots of each chunk by expert; one program a chunk."""
    chunk = tl.program_id(0)
    first = chunk * chunk_size
    end = tl.minimum(first + chunk_size, num_slots)
    counts = count_slots(ids_ptr, first, end, stride_t, stride_k, NUM_EXPERTS, TOP_K, BINS, SCAN)
    tl.store(counts_ptr + chunk * BINS + tl.arange(0, BINS), counts)


@triton.jit(do_not_specialize=["max_tiles", "num_slots", "chunk_size", "num_chunks"])
def schedule_kernel(
    ids_ptr,
    counts_ptr,
    schedule_ptr,
    max_tiles,
    num_slots,
    chunk_size,
    num_chunks,
    block_m,
    tail,
    stride_t,
    stride_k,
    NUM_EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    BINS: tl.constexpr,
    BLOCK: tl.constexpr,
    SCAN: tl.constexpr,
    COUNT_ROWS: tl.constexpr,
    COUNTED: tl.constexpr,
    WITHOUT_TAILS: tl.constexpr,
):
    """Places the slots of one chunk, and writes this program's share of the tiles."""
    chunk = tl.program_id(0)
    first_slot = chunk * chunk_size
    end_slot = tl.minimum(first_slot + chunk_size, num_slots)
    bins = tl.arange(0, BINS)

    if COUNTED:
        total = tl.zeros((BINS,), dtype=tl.int32)
        earlier = tl.zeros((BINS,), dtype=tl.int32)
        for first in range(0, num_chunks, COUNT_ROWS):
            chunks = first + tl.arange(0, COUNT_ROWS)
            counts = tl.load(
                counts_ptr + chunks[:, None] * BINS + bins[None, :],
                mask=chunks[:, None] < num_chunks,
                other=0,
            )
            total += tl.sum(counts, axis=0)
            earlier += tl.sum(tl.where(chunks[:, None] < chunk, counts, 0), axis=0)
    else:
        earlier = count_slots(
            ids_ptr, 0, first_slot, stride_t, stride_k, NUM_EXPERTS, TOP_K, BINS, SCAN
        )
        total = earlier + count_slots(
            ids_ptr, first_slot, num_slots, stride_t, stride_k, NUM_EXPERTS, TOP_K, BINS, SCAN
        )
    # The bin of ids outside [0, E) comes after every expert's, so it moves no expert's rows.
    end_row = tl.cumsum(total, axis=0)
    first_row = end_row - total

    next_row = first_row + earlier
    rows_ptr = schedule_ptr + 1 + 3 * max_tiles
    index = tl.arange(0, BLOCK)
    for first in range(first_slot, end_slot, BLOCK):
        slots = first + index
        experts = load_experts(ids_ptr, slots, end_slot, stride_t, stride_k, NUM_EXPERTS, TOP_K)
        before = (experts[:, None] == experts[None, :]) & (index[:, None] > index[None, :])
        rank = tl.sum(before.to(tl.int32), axis=1)
        rows = tl.gather(next_row, experts, 0) + rank
        tl.store(rows_ptr + rows, slots, mask=experts < NUM_EXPERTS)
        next_row += tl.histogram(experts, BINS)

    store_tiles(
        schedule_ptr,
        max_tiles,
        total,
        first_row,
        block_m,
        tail,
        chunk,
        num_chunks,
        NUM_EXPERTS,
        BINS,
    )
    if WITHOUT_TAILS:
        store_tiles(
            tiles_without_tails(schedule_ptr, max_tiles, num_slots),
            max_tiles,
            total,
            first_row,
            block_m,
            0,
            chunk,
            num_chunks,
            NUM_EXPERTS,
            BINS,
        )


def max_tiles(*, num_slots: int, num_experts: int, block_m: int) -> int:
    """The most tiles any routing needs: each expert with rows leaves at most one tile ragged."""
    occupied = min(num_slots, num_experts)
    return (num_slots + occupied * (block_m - 1)) // block_m


def plan_schedule(
    topk_ids: TensorSpec,
    num_experts: int,
    *,
    max_tiles: int,
    block_m: int,
    tail: int = 0,
    without_tails: bool = False,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Plan of the schedule's buffer for topk_ids (T, K) int32 or int64, T * K > 0.

    max_tiles: those that the buffer has room for, `max_tiles()` or more. without_tails: whether it
    also holds the tiles that are cut without tails.
    """
    num_tokens, top_k = topk_ids.shape
    num_slots = num_tokens * top_k
    bins = next_power_of_2(num_experts + 1)
    blocks = cdiv(num_slots, _BLOCK)
    chunk_size = cdiv(blocks, _MAX_CHUNKS) * _BLOCK
    num_chunks = cdiv(num_slots, chunk_size)
    counted = num_chunks > 1 and num_slots >= _COUNTED_FROM
    tile_entries = 1 + 3 * max_tiles
    counts_at = cdiv(tile_entries * (1 + without_tails) + num_slots, 4) * 4
    buffer_size = counts_at + (num_chunks * bins if counted else 0)
    strides = topk_ids.strides
    routing = {"NUM_EXPERTS": num_experts, "TOP_K": top_k, "BINS": bins}
    count = None
    if counted:
        count = Launch(
            count_kernel, num_chunks, (num_slots, chunk_size, *strides), {**routing, "SCAN": _SCAN}
        )
    place = Launch(
        schedule_kernel,
        num_chunks,
        (max_tiles, num_slots, chunk_size, num_chunks, block_m, tail, *strides),
        {
            **routing,
            "BLOCK": _BLOCK,
            "SCAN": _SCAN,
            "COUNT_ROWS": max(1, _COUNTS // bins),
            "COUNTED": counted,
            "WITHOUT_TAILS": without_tails,
        },
        num_warps=8,
    )

    def build_schedule(topk_ids: torch.Tensor) -> torch.Tensor:
        buffer = topk_ids.new_empty(buffer_size, dtype=torch.int32)
        counts = buffer
        if count is not None:
            counts = buffer[counts_at:]
            count(topk_ids, counts)
        place(topk_ids, counts, buffer)
        return buffer

    return build_schedule
