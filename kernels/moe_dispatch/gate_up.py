"""First grouped GEMM: gather the tokens' rows, multiply by gate and up, apply SwiGLU."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .activation import swiglu
from .numerics import COMPILE_OPTIONS, dot_accumulate, round_to
from .schedule import Schedule, load_slots, load_tile, tile_of_program
from .sizes import cdiv
from .tile_config import TileConfig


@triton.jit(do_not_specialize=["max_tiles"])
def gate_up_kernel(
    x_ptr,
    w_ptr,
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
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """One (BLOCK_M, BLOCK_N) tile of h = SiLU(x @ gate^T) * (x @ up^T), rows in schedule order.

    x (T, H), w (E, 2I, H) with the gate's I rows first: any strides. h (T * K, I): contiguous.
    Rows past the tile's end and columns past I repeat the last valid one, so that the main loop
    needs no mask for them; they are not stored.
    """
    tile, column = tile_of_program(max_tiles, column_tiles, GROUP_M)
    if tile >= tl.load(schedule_ptr):
        return
    expert, first_row, end_row = load_tile(schedule_ptr, tile, max_tiles)
    rows = first_row + tl.arange(0, BLOCK_M)
    tokens = load_slots(schedule_ptr, tl.minimum(rows, end_row - 1), max_tiles) // TOP_K
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    weight_rows = columns if EVEN_N else tl.minimum(columns, intermediate_size - 1)

    k = tl.arange(0, BLOCK_K)
    k_offsets = k.to(tl.int64)
    x_ptrs = x_ptr + tokens.to(tl.int64)[:, None] * stride_xt + k_offsets[None, :] * stride_xh
    gate_ptrs = (
        w_ptr
        + expert.to(tl.int64) * stride_we
        + weight_rows.to(tl.int64)[None, :] * stride_wn
        + k_offsets[:, None] * stride_wk
    )
    up_ptrs = gate_ptrs + tl.cast(intermediate_size, tl.int64) * stride_wn
    step = tl.full((), BLOCK_K, tl.int64)

    gate = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    up = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    for first_k in range(0, hidden_size, BLOCK_K):
        if EVEN_K:
            x = tl.load(x_ptrs)
            gate_weight = tl.load(gate_ptrs, eviction_policy=WEIGHT_EVICTION)
            up_weight = tl.load(up_ptrs, eviction_policy=WEIGHT_EVICTION)
        else:
            inside = first_k + k < hidden_size
            x = tl.load(x_ptrs, mask=inside[None, :], other=0.0)
            gate_weight = tl.load(
                gate_ptrs, mask=inside[:, None], other=0.0, eviction_policy=WEIGHT_EVICTION
            )
            up_weight = tl.load(
                up_ptrs, mask=inside[:, None], other=0.0, eviction_policy=WEIGHT_EVICTION
            )
        gate = dot_accumulate(x, gate_weight, gate, ALLOW_TF32)
        up = dot_accumulate(x, up_weight, up, ALLOW_TF32)
        x_ptrs += step * stride_xh
        gate_ptrs += step * stride_wk
        up_ptrs += step * stride_wk

    h = round_to(swiglu(gate, up), h_ptr.dtype.element_ty)
    h_ptrs = h_ptr + rows.to(tl.int64)[:, None] * intermediate_size + columns[None, :]
    stored = rows[:, None] < end_row
    if not EVEN_N:
        stored = stored & (columns[None, :] < intermediate_size)
    tl.store(h_ptrs, h, mask=stored)


def gate_up(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    schedule: Schedule,
    *,
    top_k: int,
    tiles: TileConfig,
    allow_tf32: bool,
) -> torch.Tensor:
    """h (T * K, I) in hidden_states' dtype, one row per scheduled slot, in schedule order.

    hidden_states: (T, H). gate_up_proj: (E, 2I, H). Rows past the scheduled ones stay unwritten.
    """
    hidden_size = hidden_states.shape[1]
    intermediate_size = gate_up_proj.shape[1] // 2
    tile = tiles.gate_up
    h = hidden_states.new_empty((schedule.num_slots, intermediate_size))
    column_tiles = cdiv(intermediate_size, tile.block_n)
    gate_up_kernel[(schedule.max_tiles * column_tiles,)](
        hidden_states,
        gate_up_proj,
        h,
        schedule.buffer,
        schedule.max_tiles,
        column_tiles,
        hidden_size,
        intermediate_size,
        *hidden_states.stride(),
        *gate_up_proj.stride(),
        TOP_K=top_k,
        BLOCK_M=tiles.block_m,
        BLOCK_N=tile.block_n,
        BLOCK_K=tile.block_k,
        GROUP_M=tile.group_m,
        EVEN_N=intermediate_size % tile.block_n == 0,
        EVEN_K=hidden_size % tile.block_k == 0,
        WEIGHT_EVICTION=tiles.weight_eviction,
        ALLOW_TF32=allow_tf32,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        **COMPILE_OPTIONS,
    )
    return h
