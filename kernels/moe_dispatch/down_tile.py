"""One tile of the second grouped GEMM: some rows of h times some columns of their expert's down."""

from __future__ import annotations

import triton.language as tl

from .numerics import dot_accumulate, round_to
from .schedule import load_slots
from .sliced_product import sliced_product
from .target import device_function


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
def sliced_down_tile(
    h_ptr,
    w_ptr,
    y_ptr,
    schedule_ptr,
    max_tiles,
    place,
    sizes,
    w_strides,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """A narrow tile at (expert, rows, columns) by `sliced_product`.

    TILE: `SlicedTile.constants`.
    """
    expert, first_row, end_row, column = place
    intermediate_size, hidden_size = sizes
    stride_we, stride_wn, stride_wk = w_strides
    columns = column * TILE[0] + tl.arange(0, TILE[0])
    weight_rows = tl.minimum(columns, hidden_size - 1)
    rows = tl.minimum(first_row + tl.arange(0, ROWS), end_row - 1)
    y = sliced_product(
        w_ptr,
        expert.to(tl.int64) * stride_we + weight_rows.to(tl.int64) * stride_wn,
        stride_wk,
        h_ptr,
        rows.to(tl.int64) * intermediate_size,
        1,
        intermediate_size,
        TILE,
        WEIGHT_EVICTION,
        ALLOW_TF32,
    )
    store_y(
        y_ptr, y, schedule_ptr, max_tiles, first_row, end_row, columns, hidden_size, ROWS, False
    )
