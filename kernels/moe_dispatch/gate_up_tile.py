"""One tile of the first grouped GEMM: some tokens' rows times some rows of gate and up."""

from __future__ import annotations

import triton.language as tl

from .activation import swiglu
from .numerics import dot_accumulate, round_to
from .schedule import load_slots
from .sliced_product import sliced_product
from .target import device_function


@device_function
def x_pointers(
    x_ptr,
    schedule_ptr,
    max_tiles,
    first_row,
    end_row,
    k,
    strides,
    TOP_K: tl.constexpr,
    ROWS: tl.constexpr,
):
    """(BLOCK_K, ROWS) pointers to the tokens' first elements; past the end, to the last row's."""
    stride_xt, stride_xh = strides
    rows = tl.minimum(first_row + tl.arange(0, ROWS), end_row - 1)
    tokens = (load_slots(schedule_ptr, rows, max_tiles) // TOP_K).to(tl.int64)
    return x_ptr + tokens[None, :] * stride_xt + k.to(tl.int64)[:, None] * stride_xh


@device_function
def load_x(x_ptrs, k, hidden_size, EVEN_K: tl.constexpr):
    """x (BLOCK_K, ROWS) at k; zeros past H, since a NaN there times a weight's zero is a NaN."""
    if EVEN_K:
        return tl.load(x_ptrs)
    return tl.load(x_ptrs, mask=k[:, None] < hidden_size, other=0.0)


@device_function
def store_h(h_ptr, gate, up, rows, end_row, columns, intermediate_size, EVEN_N: tl.constexpr):
    """h = SiLU(gate) * up at the rows before the end, as rows and columns lie in gate and up.

    rows, columns: (1, ROWS) and (BLOCK_N, 1) for sums (BLOCK_N, ROWS), or the other way round.
    """
    h_ptrs = h_ptr + rows.to(tl.int64) * intermediate_size + columns
    stored = rows < end_row
    if not EVEN_N:
        stored = stored & (columns < intermediate_size)
    tl.store(h_ptrs, round_to(swiglu(gate, up), h_ptr.dtype.element_ty), mask=stored)


@device_function
def gate_up_tile(
    x_ptr,
    w,
    h_ptr,
    schedule_ptr,
    max_tiles,
    place,
    sizes,
    x_strides,
    w_strides,
    TOP_K: tl.constexpr,
    ROWS: tl.constexpr,
    TAIL: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NUM_STAGES: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """`gate_up_kernel`'s tile of ROWS and, beside them, TAIL rows at (expert, rows, columns)."""
    expert, first_row, end_row, column = place
    hidden_size, intermediate_size = sizes
    stride_we, stride_wn, stride_wk = w_strides
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    step = tl.full((), BLOCK_K, tl.int64)
    first_tail = first_row + ROWS
    x_ptrs = x_pointers(
        x_ptr, schedule_ptr, max_tiles, first_row, end_row, k, x_strides, TOP_K, ROWS
    )
    gate = tl.full((BLOCK_N, ROWS), 0.0, tl.float32)
    up = tl.full((BLOCK_N, ROWS), 0.0, tl.float32)
    if TAIL:
        tail_ptrs = x_pointers(
            x_ptr, schedule_ptr, max_tiles, first_tail, end_row, k, x_strides, TOP_K, TAIL
        )
        tail_gate = tl.full((BLOCK_N, TAIL), 0.0, tl.float32)
        tail_up = tl.full((BLOCK_N, TAIL), 0.0, tl.float32)
    gate_row = expert * 2 * intermediate_size + column * BLOCK_N
    if not BY_DESCRIPTOR:
        weight_rows = columns if EVEN_N else tl.minimum(columns, intermediate_size - 1)
        gate_ptrs = (
            w
            + expert.to(tl.int64) * stride_we
            + weight_rows.to(tl.int64)[:, None] * stride_wn
            + k.to(tl.int64)[None, :] * stride_wk
        )
        up_ptrs = gate_ptrs + tl.cast(intermediate_size, tl.int64) * stride_wn

    for first_k in tl.range(0, hidden_size, BLOCK_K, num_stages=NUM_STAGES):
        if BY_DESCRIPTOR:
            # Past H there are zeros.
            gate_weight = w.load([gate_row, first_k])
            up_weight = w.load([gate_row + intermediate_size, first_k])
        elif EVEN_K:
            gate_weight = tl.load(gate_ptrs, eviction_policy=WEIGHT_EVICTION)
            up_weight = tl.load(up_ptrs, eviction_policy=WEIGHT_EVICTION)
        else:
            inside = first_k + k < hidden_size
            gate_weight = tl.load(
                gate_ptrs, mask=inside[None, :], other=0.0, eviction_policy=WEIGHT_EVICTION
            )
            up_weight = tl.load(
                up_ptrs, mask=inside[None, :], other=0.0, eviction_policy=WEIGHT_EVICTION
            )
        x = load_x(x_ptrs, first_k + k, hidden_size, EVEN_K)
        gate = dot_accumulate(gate_weight, x, gate, ALLOW_TF32)
        up = dot_accumulate(up_weight, x, up, ALLOW_TF32)
        x_ptrs += step * x_strides[1]
        if TAIL:
            tail = load_x(tail_ptrs, first_k + k, hidden_size, EVEN_K)
            tail_gate = dot_accumulate(gate_weight, tail, tail_gate, ALLOW_TF32)
            tail_up = dot_accumulate(up_weight, tail, tail_up, ALLOW_TF32)
            tail_ptrs += step * x_strides[1]
        if not BY_DESCRIPTOR:
            gate_ptrs += step * stride_wk
            up_ptrs += step * stride_wk

    columns = columns[:, None]
    rows = first_row + tl.arange(0, ROWS)[None, :]
    store_h(h_ptr, gate, up, rows, end_row, columns, intermediate_size, EVEN_N)
    if TAIL:
        rows = first_tail + tl.arange(0, TAIL)[None, :]
        store_h(h_ptr, tail_gate, tail_up, rows, end_row, columns, intermediate_size, EVEN_N)


@device_function
def sliced_gate_up_tile(
    x_ptr,
    w_ptr,
    h_ptr,
    schedule_ptr,
    max_tiles,
    place,
    sizes,
    x_strides,
    w_strides,
    TOP_K: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """A narrow tile at (expert, rows, columns), its gate and up one `sliced_product`.

    TILE: `SlicedTile.constants`.
    """
    expert, first_row, end_row, column = place
    hidden_size, intermediate_size = sizes
    stride_we, stride_wn, stride_wk = w_strides
    BLOCK_N: tl.constexpr = TILE[0]
    index = tl.arange(0, 2 * BLOCK_N)
    columns = tl.minimum(column * BLOCK_N + index % BLOCK_N, intermediate_size - 1)
    weight_rows = columns + (index // BLOCK_N) * intermediate_size
    rows = first_row + tl.arange(0, ROWS)
    slots = load_slots(schedule_ptr, tl.minimum(rows, end_row - 1), max_tiles)
    joint = sliced_product(
        w_ptr,
        expert.to(tl.int64) * stride_we + weight_rows.to(tl.int64) * stride_wn,
        stride_wk,
        x_ptr,
        (slots // TOP_K).to(tl.int64) * x_strides[0],
        x_strides[1],
        hidden_size,
        TILE,
        WEIGHT_EVICTION,
        ALLOW_TF32,
    )
    gate, up = tl.split(tl.permute(tl.reshape(joint, (2, BLOCK_N, ROWS)), (1, 2, 0)))
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]
    store_h(h_ptr, gate, up, rows[None, :], end_row, columns, intermediate_size, False)
