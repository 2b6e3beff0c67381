"""One tile of the first grouped GEMM that has a few rows beyond BLOCK_M.

A tile of their own would read the expert's weights again. Here they share those of the other rows,
with accumulators of their own, and are the second operand: as the first they would fill a quarter
or half of a wgmma's 64 rows. The weights are the first operand then, which Triton leaves in shared
memory only if it is a load's result as it is; a block of gate and up together, reshaped, it brings
into registers, and each step waits for that. So gate and up are loaded one by one.
"""

from __future__ import annotations

import triton.language as tl

from .gate_up_tile import load_x, store_h, x_pointers
from .numerics import dot_accumulate
from .target import device_function


@device_function
def tall_gate_up_tile(
    x_ptr,
    w_rows,
    h_ptr,
    schedule_ptr,
    max_tiles,
    place,
    sizes,
    x_strides,
    TOP_K: tl.constexpr,
    ROWS: tl.constexpr,
    TAIL: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NUM_STAGES: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """`joint_gate_up_kernel`'s tile of ROWS and TAIL rows more at (expert, rows, columns).

    w_rows: a descriptor of the weights' (E * 2I, H) rows.
    """
    expert, first_row, end_row, column = place
    hidden_size, intermediate_size = sizes
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    step = tl.full((), BLOCK_K, tl.int64) * x_strides[1]
    first_tail = first_row + ROWS
    x_ptrs = x_pointers(
        x_ptr, schedule_ptr, max_tiles, first_row, end_row, k, x_strides, TOP_K, ROWS
    )
    tail_ptrs = x_pointers(
        x_ptr, schedule_ptr, max_tiles, first_tail, end_row, k, x_strides, TOP_K, TAIL
    )
    gate = tl.full((ROWS, BLOCK_N), 0.0, tl.float32)
    up = tl.full((ROWS, BLOCK_N), 0.0, tl.float32)
    tail_gate = tl.full((BLOCK_N, TAIL), 0.0, tl.float32)
    tail_up = tl.full((BLOCK_N, TAIL), 0.0, tl.float32)
    gate_row = expert * 2 * intermediate_size + column * BLOCK_N

    for first_k in tl.range(0, hidden_size, BLOCK_K, num_stages=NUM_STAGES):
        # Past H there are zeros; past I, rows that follow, whose columns are not stored.
        gate_weight = w_rows.load([gate_row, first_k])
        up_weight = w_rows.load([gate_row + intermediate_size, first_k])
        x = load_x(x_ptrs, first_k + k, hidden_size, EVEN_K)
        gate = dot_accumulate(x.T, gate_weight.T, gate, ALLOW_TF32)
        up = dot_accumulate(x.T, up_weight.T, up, ALLOW_TF32)
        x_ptrs += step
        tail = load_x(tail_ptrs, first_k + k, hidden_size, EVEN_K)
        tail_gate = dot_accumulate(gate_weight, tail, tail_gate, ALLOW_TF32)
        tail_up = dot_accumulate(up_weight, tail, tail_up, ALLOW_TF32)
        tail_ptrs += step

    rows = first_row + tl.arange(0, ROWS)[:, None]
    store_h(h_ptr, gate, up, rows, end_row, columns[None, :], intermediate_size, EVEN_N)
    rows = first_tail + tl.arange(0, TAIL)[None, :]
    columns = columns[:, None]
    store_h(h_ptr, tail_gate, tail_up, rows, end_row, columns, intermediate_size, EVEN_N)
