"""Second grouped GEMM: each scheduled row times its expert's down projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

from .launch import Launch, takes_descriptor
from .numerics import dot_accumulate, round_to
from .schedule import load_slots, load_tile, tile_of_program
from .sizes import cdiv
from .target import device_function
from .tensor_spec import TensorSpec
from .tile_config import GemmTile, TileConfig


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


@device_function
def down_program(
    h_ptr,
    h_rows,
    w,
    y_ptr,
    schedule_ptr,
    max_tiles,
    num_tiles,
    column_tiles,
    sizes,
    w_strides,
    HEIGHTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    TILE: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    H_BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """`down_kernel`'s tile of this program, if it has one, at the height that its rows ask for."""
    if tl.program_id(0) < num_tiles * column_tiles:
        tile, column = tile_of_program(tl.program_id(0), num_tiles, column_tiles, TILE[2])
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
                    sizes,
                    w_strides,
                    min(HEIGHTS[i], BLOCK_M),
                    HEIGHTS[i] - min(HEIGHTS[i], BLOCK_M),
                    TILE[0],
                    TILE[1],
                    TILE[3][i],
                    TILE[4],
                    TILE[5],
                    BY_DESCRIPTOR,
                    H_BY_DESCRIPTOR and HEIGHTS[i] >= BLOCK_M,
                    WEIGHT_EVICTION,
                    ALLOW_TF32,
                )


@triton.jit(do_not_specialize=["max_tiles", "narrow_up_to"])
def down_kernel(
    h_ptr,
    h_rows,
    w,
    narrow_w,
    y_ptr,
    schedule_ptr,
    max_tiles,
    column_tiles,
    narrow_column_tiles,
    narrow_up_to,
    intermediate_size,
    hidden_size,
    stride_we,
    stride_wn,
    stride_wk,
    HEIGHTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    TILE: tl.constexpr,
    NARROW_TILE: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """BLOCK_N columns of one tile of y = h @ down^T, stored at the rows' slots.

    h (T * K, I): contiguous, rows in schedule order; h_rows is h again. w (E, H, I): any strides,
    and narrow_w is w again. BY_DESCRIPTOR, the other two are descriptors of h's rows and of w's
    (E * H, I) rows, and BLOCK_M rows of h are loaded at once. y (T * K, H): contiguous, rows in
    slot order. Transposed and as high as its rows ask for, like `gate_up_kernel`'s tiles. Rows past
    the tile's end and columns past H repeat the last valid one, or are whatever rows follow, so
    that the main loop needs no mask for them; they are not stored.

    TILE, NARROW_TILE: BLOCK_N, BLOCK_K, GROUP_M, STAGES, EVEN_N and EVEN_K. The work of at most
    `narrow_up_to` programs is shared out among more in narrow tiles, if there are such.
    """
    num_tiles = tl.load(schedule_ptr)
    sizes = (intermediate_size, hidden_size)
    w_strides = (stride_we, stride_wn, stride_wk)
    few = num_tiles * column_tiles <= narrow_up_to
    if NARROW_TILE is None or not few:
        down_program(
            h_ptr,
            h_rows,
            w,
            y_ptr,
            schedule_ptr,
            max_tiles,
            num_tiles,
            column_tiles,
            sizes,
            w_strides,
            HEIGHTS,
            BLOCK_M,
            TILE,
            BY_DESCRIPTOR,
            BY_DESCRIPTOR,
            WEIGHT_EVICTION,
            ALLOW_TF32,
        )
    elif NARROW_TILE is not None:
        down_program(
            h_ptr,
            h_rows,
            narrow_w,
            y_ptr,
            schedule_ptr,
            max_tiles,
            num_tiles,
            narrow_column_tiles,
            sizes,
            w_strides,
            HEIGHTS,
            BLOCK_M,
            NARROW_TILE,
            BY_DESCRIPTOR,
            False,
            WEIGHT_EVICTION,
            ALLOW_TF32,
        )


def plan_down(
    h: TensorSpec,
    down_proj: TensorSpec,
    *,
    max_tiles: int,
    programs: int,
    tiles: TileConfig,
    allow_tf32: bool,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Plan of y (T * K, H) from h (T * K, I), down_proj (E, H, I) and a schedule.

    h: `gate_up`'s result. y has h's dtype and its rows in slot order; those of slots that the
    schedule leaves out stay unwritten. max_tiles: the schedule's. programs: few tiles are narrow
    where no more than this many programs had one.
    """
    tile, narrow = tiles.down, tiles.narrow_down
    num_slots = h.shape[0]
    _, hidden_size, intermediate_size = down_proj.shape
    column_tiles = cdiv(hidden_size, tile.block_n)
    narrow_column_tiles = 0 if narrow is None else cdiv(hidden_size, narrow.block_n)
    few_tiles = min(max_tiles, programs // column_tiles)
    by_descriptor = tile.by_descriptor and takes_descriptor(down_proj) and takes_descriptor(h)
    blocks = {
        1: (h, [tiles.block_m, tile.block_k]),
        2: (down_proj, [tile.block_n, tile.block_k]),
    }
    if narrow is not None:
        blocks[3] = (down_proj, [narrow.block_n, narrow.block_k])

    def constants(tile: GemmTile) -> tuple[Any, ...]:
        return (
            tile.block_n,
            tile.block_k,
            tile.group_m,
            tile.num_stages,
            hidden_size % tile.block_n == 0,
            intermediate_size % tile.block_k == 0,
        )

    launch = Launch(
        down_kernel,
        max(max_tiles * column_tiles, few_tiles * narrow_column_tiles),
        (
            max_tiles,
            column_tiles,
            narrow_column_tiles,
            programs,
            intermediate_size,
            hidden_size,
            *down_proj.strides,
        ),
        {
            "HEIGHTS": tiles.heights,
            "BLOCK_M": tiles.block_m,
            "TILE": constants(tile),
            "NARROW_TILE": None if narrow is None else constants(narrow),
            "BY_DESCRIPTOR": by_descriptor,
            "WEIGHT_EVICTION": tiles.weight_eviction,
            "ALLOW_TF32": allow_tf32,
        },
        blocks=blocks if by_descriptor else None,
        **tile.options,
    )

    def down(h: torch.Tensor, down_proj: torch.Tensor, schedule: torch.Tensor) -> torch.Tensor:
        y = h.new_empty(num_slots, hidden_size)
        launch(h, h, down_proj, down_proj, y, schedule)
        return y

    return down
