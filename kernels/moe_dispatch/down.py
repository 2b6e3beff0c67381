"""Second grouped GEMM: each scheduled row times its expert's down projection."""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl

from .launch import LAUNCHES_KEPT, Launch, takes_descriptor
from .numerics import dot_accumulate, round_to
from .schedule import Schedule, load_slots, load_tile, tile_of_program
from .sizes import cdiv
from .target import device_function
from .tile_config import TileConfig


@device_function
def down_tile(
    h,
    w,
    y_ptr,
    schedule_ptr,
    max_tiles,
    place,
    sizes,
    strides,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """BLOCK_M rows of `down_kernel`'s tile at (expert, first row, end row, column tile)."""
    expert, first_row, end_row, column = place
    intermediate_size, hidden_size = sizes
    stride_we, stride_wn, stride_wk = strides
    rows = first_row + tl.arange(0, BLOCK_M)
    valid_rows = tl.minimum(rows, end_row - 1)
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    weight_rows = columns if EVEN_N else tl.minimum(columns, hidden_size - 1)

    k = tl.arange(0, BLOCK_K)
    step = tl.full((), BLOCK_K, tl.int64)
    weight_row = expert * hidden_size + column * BLOCK_N
    if not BY_DESCRIPTOR:
        h_ptrs = h + valid_rows.to(tl.int64)[:, None] * intermediate_size + k[None, :]
        w_ptrs = (
            w
            + expert.to(tl.int64) * stride_we
            + weight_rows.to(tl.int64)[None, :] * stride_wn
            + k.to(tl.int64)[:, None] * stride_wk
        )

    y = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    for first_k in range(0, intermediate_size, BLOCK_K):
        if BY_DESCRIPTOR:
            # Past I there are zeros.
            rows_of_h = h.load([first_row, first_k])
            weight = w.load([weight_row, first_k]).T
        elif EVEN_K:
            rows_of_h = tl.load(h_ptrs)
            weight = tl.load(w_ptrs, eviction_policy=WEIGHT_EVICTION)
        else:
            inside = first_k + k < intermediate_size
            rows_of_h = tl.load(h_ptrs, mask=inside[None, :], other=0.0)
            weight = tl.load(
                w_ptrs, mask=inside[:, None], other=0.0, eviction_policy=WEIGHT_EVICTION
            )
        y = dot_accumulate(rows_of_h, weight, y, ALLOW_TF32)
        if not BY_DESCRIPTOR:
            h_ptrs += BLOCK_K
            w_ptrs += step * stride_wk

    slots = load_slots(schedule_ptr, valid_rows, max_tiles)
    y_ptrs = y_ptr + slots.to(tl.int64)[:, None] * hidden_size + columns[None, :]
    stored = rows[:, None] < end_row
    if not EVEN_N:
        stored = stored & (columns[None, :] < hidden_size)
    tl.store(y_ptrs, round_to(y, y_ptr.dtype.element_ty), mask=stored)


@triton.jit(do_not_specialize=["max_tiles"])
def down_kernel(
    h,
    h_half,
    w,
    y_ptr,
    schedule_ptr,
    max_tiles,
    column_tiles,
    intermediate_size,
    hidden_size,
    stride_we,
    stride_wn,
    stride_wk,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    HALVE_LAST: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """One (BLOCK_M, BLOCK_N) tile of y = h @ down^T, stored at the rows' slots.

    h (T * K, I): contiguous, rows in schedule order. w (E, H, I): any strides. y (T * K, H):
    contiguous, rows in slot order. h and w are pointers or, BY_DESCRIPTOR, descriptors of h and of
    w's (E * H, I) rows. Rows past the tile's end and columns past H repeat the last valid one, or
    are whatever rows follow, so that the main loop needs no mask for them; they are not stored.
    HALVE_LAST: an expert's last tile multiplies only BLOCK_M / 2 rows if it has no more, and reads
    them from h_half, which is h again.
    """
    tile, column = tile_of_program(max_tiles, column_tiles, GROUP_M)
    if tile >= tl.load(schedule_ptr):
        return
    expert, first_row, end_row = load_tile(schedule_ptr, tile, max_tiles)
    place = (expert, first_row, end_row, column)
    sizes = (intermediate_size, hidden_size)
    strides = (stride_we, stride_wn, stride_wk)
    if HALVE_LAST:  # noqa: SIM102  Triton evaluates both sides of an `and`
        if end_row - first_row <= BLOCK_M // 2:
            down_tile(
                h_half,
                w,
                y_ptr,
                schedule_ptr,
                max_tiles,
                place,
                sizes,
                strides,
                BLOCK_M // 2,
                BLOCK_N,
                BLOCK_K,
                EVEN_N,
                EVEN_K,
                BY_DESCRIPTOR,
                WEIGHT_EVICTION,
                ALLOW_TF32,
            )
            return
    down_tile(
        h,
        w,
        y_ptr,
        schedule_ptr,
        max_tiles,
        place,
        sizes,
        strides,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
        EVEN_N,
        EVEN_K,
        BY_DESCRIPTOR,
        WEIGHT_EVICTION,
        ALLOW_TF32,
    )


def down(
    h: torch.Tensor,
    down_proj: torch.Tensor,
    schedule: Schedule,
    *,
    tiles: TileConfig,
    allow_tf32: bool,
) -> torch.Tensor:
    """y (T * K, H) in h's dtype, one row per slot, in slot order.

    h: (T * K, I), `gate_up`'s result. down_proj: (E, H, I). Rows of slots that the schedule leaves
    out stay unwritten.
    """
    tile = tiles.down
    y = h.new_empty((schedule.num_slots, down_proj.shape[1]))
    launch = _launch(
        h.device,
        h.dtype,
        down_proj.shape,
        down_proj.stride(),
        schedule.max_tiles,
        tiles,
        tile.by_descriptor and takes_descriptor(down_proj) and takes_descriptor(h),
        allow_tf32,
    )
    launch(h, h, down_proj, y, schedule.buffer)
    return y


@lru_cache(maxsize=LAUNCHES_KEPT)
def _launch(
    device: torch.device,
    dtype: torch.dtype,
    w_shape: torch.Size,
    w_strides: tuple[int, ...],
    max_tiles: int,
    tiles: TileConfig,
    by_descriptor: bool,
    allow_tf32: bool,
) -> Launch:
    tile = tiles.down
    _, hidden_size, intermediate_size = w_shape
    column_tiles = cdiv(hidden_size, tile.block_n)
    blocks = {
        0: [tiles.block_m, tile.block_k],
        1: [tiles.block_m // 2, tile.block_k],
        2: [tile.block_n, tile.block_k],
    }
    return Launch(
        down_kernel,
        max_tiles * column_tiles,
        (max_tiles, column_tiles, intermediate_size, hidden_size, *w_strides),
        {
            "BLOCK_M": tiles.block_m,
            "BLOCK_N": tile.block_n,
            "BLOCK_K": tile.block_k,
            "GROUP_M": tile.group_m,
            "HALVE_LAST": tiles.halve_last,
            "EVEN_N": hidden_size % tile.block_n == 0,
            "EVEN_K": intermediate_size % tile.block_k == 0,
            "BY_DESCRIPTOR": by_descriptor,
            "WEIGHT_EVICTION": tiles.weight_eviction,
            "ALLOW_TF32": allow_tf32,
        },
        blocks=blocks if by_descriptor else None,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
