"""Second grouped GEMM: each scheduled row times its expert's down projection."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from .launch import Launch, takes_descriptor
from .numerics import dot_accumulate, round_to
from .schedule import load_slots, load_tile, tile_of_program
from .sizes import cdiv
from .target import device_function
from .tensor_spec import TensorSpec
from .tile_config import TileConfig


@device_function
def store_y(
    y_ptr,
    y,
    schedule_ptr,
    max_tiles,
    first_row,
    end_row,
    columns,
    hidden_size,
    ROWS: tl.constexpr,
    EVEN_N: tl.constexpr,
):
    """y (BLOCK_N, ROWS) at the slots of the rows before the end."""
    rows = first_row + tl.arange(0, ROWS)
    slots = load_slots(schedule_ptr, tl.minimum(rows, end_row - 1), max_tiles)
    y_ptrs = y_ptr + slots.to(tl.int64)[None, :] * hidden_size + columns[:, None]
    stored = rows[None, :] < end_row
    if not EVEN_N:
        stored = stored & (columns[:, None] < hidden_size)
    tl.store(y_ptrs, round_to(y, y_ptr.dtype.element_ty), mask=stored)


@device_function
def h_pointers(h_ptr, first_row, end_row, k, intermediate_size, ROWS: tl.constexpr):
    """(BLOCK_K, ROWS) pointers to the rows' first elements; past the end, to the last row's."""
    rows = tl.minimum(first_row + tl.arange(0, ROWS), end_row - 1)
    return h_ptr + rows.to(tl.int64)[None, :] * intermediate_size + k[:, None]


@device_function
def down_tile(
    h_ptr,
    h_rows,
    w,
    y_ptr,
    schedule_ptr,
    max_tiles,
    place,
    sizes,
    w_strides,
    ROWS: tl.constexpr,
    TAIL: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NUM_STAGES: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    H_BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """`down_kernel`'s tile of ROWS and, beside them, TAIL rows at (expert, rows, columns)."""
    expert, first_row, end_row, column = place
    intermediate_size, hidden_size = sizes
    stride_we, stride_wn, stride_wk = w_strides
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    step = tl.full((), BLOCK_K, tl.int64)
    first_tail = first_row + ROWS
    if not H_BY_DESCRIPTOR:
        h_ptrs = h_pointers(h_ptr, first_row, end_row, k, intermediate_size, ROWS)
    y = tl.full((BLOCK_N, ROWS), 0.0, tl.float32)
    if TAIL:
        tail_ptrs = h_pointers(h_ptr, first_tail, end_row, k, intermediate_size, TAIL)
        tail_y = tl.full((BLOCK_N, TAIL), 0.0, tl.float32)
    weight_row = expert * hidden_size + column * BLOCK_N
    if not BY_DESCRIPTOR:
        weight_rows = columns if EVEN_N else tl.minimum(columns, hidden_size - 1)
        w_ptrs = (
            w
            + expert.to(tl.int64) * stride_we
            + weight_rows.to(tl.int64)[:, None] * stride_wn
            + k.to(tl.int64)[None, :] * stride_wk
        )

    for first_k in tl.range(0, intermediate_size, BLOCK_K, num_stages=NUM_STAGES):
        inside = first_k + k < intermediate_size
        if BY_DESCRIPTOR:
            # Past I there are zeros.
            weight = w.load([weight_row, first_k])
        elif EVEN_K:
            weight = tl.load(w_ptrs, eviction_policy=WEIGHT_EVICTION)
        else:
            weight = tl.load(
                w_ptrs, mask=inside[None, :], other=0.0, eviction_policy=WEIGHT_EVICTION
            )
        if H_BY_DESCRIPTOR:
            h = h_rows.load([first_row, first_k]).T
        elif EVEN_K:
            h = tl.load(h_ptrs)
        else:
            h = tl.load(h_ptrs, mask=inside[:, None], other=0.0)
        y = dot_accumulate(weight, h, y, ALLOW_TF32)
        if not H_BY_DESCRIPTOR:
            h_ptrs += BLOCK_K
        if TAIL:
            tail = (
                tl.load(tail_ptrs)
                if EVEN_K
                else tl.load(tail_ptrs, mask=inside[:, None], other=0.0)
            )
            tail_y = dot_accumulate(weight, tail, tail_y, ALLOW_TF32)
            tail_ptrs += BLOCK_K
        if not BY_DESCRIPTOR:
            w_ptrs += step * stride_wk

    store_y(
        y_ptr, y, schedule_ptr, max_tiles, first_row, end_row, columns, hidden_size, ROWS, EVEN_N
    )
    if TAIL:
        store_y(
            y_ptr,
            tail_y,
            schedule_ptr,
            max_tiles,
            first_tail,
            end_row,
            columns,
            hidden_size,
            TAIL,
            EVEN_N,
        )


@triton.jit(do_not_specialize=["max_tiles"])
def down_kernel(
    h_ptr,
    h_rows,
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
    HEIGHTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    STAGES: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """BLOCK_N columns of one tile of y = h @ down^T, stored at the rows' slots.

    h (T * K, I): contiguous, rows in schedule order; h_rows is h again. w (E, H, I): any strides.
    BY_DESCRIPTOR, h_rows and w are descriptors of h's rows and of w's (E * H, I) rows, and BLOCK_M
    rows of h are loaded at once. y (T * K, H): contiguous, rows in slot order. Transposed and as
    high as its rows ask for, like `gate_up_kernel`'s tiles. Rows past the tile's end and columns
    past H repeat the last valid one, or are whatever rows follow, so that the main loop needs no
    mask for them; they are not stored.
    """
    num_tiles = tl.load(schedule_ptr)
    if tl.program_id(0) >= num_tiles * column_tiles:
        return
    tile, column = tile_of_program(tl.program_id(0), num_tiles, column_tiles, GROUP_M)
    expert, first_row, end_row = load_tile(schedule_ptr, tile, max_tiles)
    rows = end_row - first_row
    for i in tl.static_range(len(HEIGHTS)):
        if (rows > (HEIGHTS[i - 1] if i else 0)) & (rows <= HEIGHTS[i]):
            down_tile(
                h_ptr,
                h_rows,
                w,
                y_ptr,
                schedule_ptr,
                max_tiles,
                (expert, first_row, end_row, column),
                (intermediate_size, hidden_size),
                (stride_we, stride_wn, stride_wk),
                min(HEIGHTS[i], BLOCK_M),
                HEIGHTS[i] - min(HEIGHTS[i], BLOCK_M),
                BLOCK_N,
                BLOCK_K,
                STAGES[i],
                EVEN_N,
                EVEN_K,
                BY_DESCRIPTOR,
                BY_DESCRIPTOR and HEIGHTS[i] >= BLOCK_M,
                WEIGHT_EVICTION,
                ALLOW_TF32,
            )


def plan_down(
    h: TensorSpec,
    down_proj: TensorSpec,
    *,
    max_tiles: int,
    tiles: TileConfig,
    allow_tf32: bool,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Plan of y (T * K, H) from h (T * K, I), down_proj (E, H, I) and a schedule.

    h: `gate_up`'s result. y has h's dtype and its rows in slot order; those of slots that the
    schedule leaves out stay unwritten. max_tiles: the schedule's.
    """
    tile = tiles.down
    num_slots = h.shape[0]
    _, hidden_size, intermediate_size = down_proj.shape
    column_tiles = cdiv(hidden_size, tile.block_n)
    by_descriptor = tile.by_descriptor and takes_descriptor(down_proj) and takes_descriptor(h)
    blocks = {
        1: (h, [tiles.block_m, tile.block_k]),
        2: (down_proj, [tile.block_n, tile.block_k]),
    }
    launch = Launch(
        down_kernel,
        max_tiles * column_tiles,
        (max_tiles, column_tiles, intermediate_size, hidden_size, *down_proj.strides),
        {
            "HEIGHTS": tiles.heights,
            "BLOCK_M": tiles.block_m,
            "BLOCK_N": tile.block_n,
            "BLOCK_K": tile.block_k,
            "GROUP_M": tile.group_m,
            "STAGES": tile.num_stages,
            "EVEN_N": hidden_size % tile.block_n == 0,
            "EVEN_K": intermediate_size % tile.block_k == 0,
            "BY_DESCRIPTOR": by_descriptor,
            "WEIGHT_EVICTION": tiles.weight_eviction,
            "ALLOW_TF32": allow_tf32,
        },
        blocks=blocks if by_descriptor else None,
        **tile.options,
    )

    def down(h: torch.Tensor, down_proj: torch.Tensor, schedule: torch.Tensor) -> torch.Tensor:
        y = h.new_empty(num_slots, hidden_size)
        launch(h, h, down_proj, y, schedule)
        return y

    return down
