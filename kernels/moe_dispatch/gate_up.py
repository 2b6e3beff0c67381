"""First grouped GEMM: gather the tokens' rows, multiply by gate and up, apply SwiGLU.

The product is computed transposed: the weights are the first operand of the matrix instruction and
the tokens' rows the second. Its shape then follows the weights' block, which is always full, and
only its width follows the tile's height: wgmma multiplies 64 weight rows by any multiple of 8
tokens (PTX ISA, wgmma.mma_async). So a tile is as high as its expert has rows, and a token's result
has the same bits in a tile of any height.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from .activation import swiglu
from .launch import Launch, takes_descriptor
from .numerics import dot_accumulate, round_to
from .schedule import load_slots, load_tile, tile_of_program
from .sizes import cdiv
from .target import device_function
from .tensor_spec import TensorSpec
from .tile_config import TileConfig


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


@triton.jit(do_not_specialize=["max_tiles"])
def gate_up_kernel(
    x_ptr,
    w,
    h_ptr,
    schedule_ptr,
    max_tiles,
    column_tiles,
    hidden_size,
    intermediate_size,
    stride_xt,
    stride_xh,
    stride_we,
    stride_wn,
    stride_wk,
    TOP_K: tl.constexpr,
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
    """BLOCK_N columns of one tile of h = SiLU(x @ gate^T) * (x @ up^T), rows in schedule order.

    x (T, H), w (E, 2I, H) with the gate's I rows first: any strides. h (T * K, I): contiguous.
    w is a pointer or, BY_DESCRIPTOR, a descriptor of its (E * 2I, H) rows. The tile is computed at
    the least of the HEIGHTS that holds its rows; of a height above BLOCK_M, the rest lies beside
    BLOCK_M rows in accumulators of its own. Rows past the tile's end repeat the last valid one, and
    columns past I that one or whatever rows of w follow, so that the main loop needs no mask for
    them; they are not stored.
    """
    num_tiles = tl.load(schedule_ptr)
    if tl.program_id(0) >= num_tiles * column_tiles:
        return
    tile, column = tile_of_program(tl.program_id(0), num_tiles, column_tiles, GROUP_M)
    expert, first_row, end_row = load_tile(schedule_ptr, tile, max_tiles)
    rows = end_row - first_row
    for i in tl.static_range(len(HEIGHTS)):
        if (rows > (HEIGHTS[i - 1] if i else 0)) & (rows <= HEIGHTS[i]):
            gate_up_tile(
                x_ptr,
                w,
                h_ptr,
                schedule_ptr,
                max_tiles,
                (expert, first_row, end_row, column),
                (hidden_size, intermediate_size),
                (stride_xt, stride_xh),
                (stride_we, stride_wn, stride_wk),
                TOP_K,
                min(HEIGHTS[i], BLOCK_M),
                HEIGHTS[i] - min(HEIGHTS[i], BLOCK_M),
                BLOCK_N,
                BLOCK_K,
                STAGES[i],
                EVEN_N,
                EVEN_K,
                BY_DESCRIPTOR,
                WEIGHT_EVICTION,
                ALLOW_TF32,
            )


def plan_gate_up(
    hidden_states: TensorSpec,
    gate_up_proj: TensorSpec,
    *,
    max_tiles: int,
    top_k: int,
    tiles: TileConfig,
    allow_tf32: bool,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Plan of h (T * K, I) from hidden_states (T, H), gate_up_proj (E, 2I, H) and a schedule.

    h has hidden_states' dtype and one row per scheduled slot, in schedule order; rows past those
    stay unwritten. max_tiles: the schedule's.
    """
    tile = tiles.gate_up
    num_slots = hidden_states.shape[0] * top_k
    _, gate_up_rows, hidden_size = gate_up_proj.shape
    intermediate_size = gate_up_rows // 2
    column_tiles = cdiv(intermediate_size, tile.block_n)
    by_descriptor = tile.by_descriptor and takes_descriptor(gate_up_proj)
    launch = Launch(
        gate_up_kernel,
        max_tiles * column_tiles,
        (
            max_tiles,
            column_tiles,
            hidden_size,
            intermediate_size,
            *hidden_states.strides,
            *gate_up_proj.strides,
        ),
        {
            "TOP_K": top_k,
            "HEIGHTS": tiles.heights,
            "BLOCK_M": tiles.block_m,
            "BLOCK_N": tile.block_n,
            "BLOCK_K": tile.block_k,
            "GROUP_M": tile.group_m,
            "STAGES": tile.num_stages,
            "EVEN_N": intermediate_size % tile.block_n == 0,
            "EVEN_K": hidden_size % tile.block_k == 0,
            "BY_DESCRIPTOR": by_descriptor,
            "WEIGHT_EVICTION": tiles.weight_eviction,
            "ALLOW_TF32": allow_tf32,
        },
        blocks={1: (gate_up_proj, [tile.block_n, tile.block_k])} if by_descriptor else None,
        **tile.options,
    )

    def gate_up(
        hidden_states: torch.Tensor, gate_up_proj: torch.Tensor, schedule: torch.Tensor
    ) -> torch.Tensor:
        h = hidden_states.new_empty(num_slots, intermediate_size)
        launch(hidden_states, gate_up_proj, h, schedule)
        return h

    return gate_up
