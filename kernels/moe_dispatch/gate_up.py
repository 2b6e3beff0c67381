"""First grouped GEMM: gather the tokens' rows, multiply by gate and up, apply SwiGLU."""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl

from .activation import swiglu
from .launch import LAUNCHES_KEPT, Launch, takes_descriptor
from .numerics import dot_accumulate, round_to
from .schedule import Schedule, load_slots, load_tile, tile_of_program
from .sizes import cdiv
from .target import device_function
from .tile_config import TileConfig


@device_function
def gate_up_tile(
    x_ptr,
    w,
    h_ptr,
    schedule_ptr,
    max_tiles,
    place,
    sizes,
    strides,
    TOP_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """BLOCK_M rows of `gate_up_kernel`'s tile at (expert, first row, end row, column tile)."""
    expert, first_row, end_row, column = place
    hidden_size, intermediate_size = sizes
    stride_xt, stride_xh, stride_we, stride_wn, stride_wk = strides
    rows = first_row + tl.arange(0, BLOCK_M)
    tokens = load_slots(schedule_ptr, tl.minimum(rows, end_row - 1), max_tiles) // TOP_K
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    weight_rows = columns if EVEN_N else tl.minimum(columns, intermediate_size - 1)

    k = tl.arange(0, BLOCK_K)
    k_offsets = k.to(tl.int64)
    x_ptrs = x_ptr + tokens.to(tl.int64)[:, None] * stride_xt + k_offsets[None, :] * stride_xh
    step = tl.full((), BLOCK_K, tl.int64)
    gate_row = expert * 2 * intermediate_size + column * BLOCK_N
    if not BY_DESCRIPTOR:
        gate_ptrs = (
            w
            + expert.to(tl.int64) * stride_we
            + weight_rows.to(tl.int64)[None, :] * stride_wn
            + k_offsets[:, None] * stride_wk
        )
        up_ptrs = gate_ptrs + tl.cast(intermediate_size, tl.int64) * stride_wn

    gate = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    up = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    for first_k in range(0, hidden_size, BLOCK_K):
        inside = first_k + k < hidden_size
        x = tl.load(x_ptrs) if EVEN_K else tl.load(x_ptrs, mask=inside[None, :], other=0.0)
        if BY_DESCRIPTOR:
            # Past H there are zeros.
            gate_weight = w.load([gate_row, first_k]).T
            up_weight = w.load([gate_row + intermediate_size, first_k]).T
        elif EVEN_K:
            gate_weight = tl.load(gate_ptrs, eviction_policy=WEIGHT_EVICTION)
            up_weight = tl.load(up_ptrs, eviction_policy=WEIGHT_EVICTION)
        else:
            gate_weight = tl.load(
                gate_ptrs, mask=inside[:, None], other=0.0, eviction_policy=WEIGHT_EVICTION
            )
            up_weight = tl.load(
                up_ptrs, mask=inside[:, None], other=0.0, eviction_policy=WEIGHT_EVICTION
            )
        gate = dot_accumulate(x, gate_weight, gate, ALLOW_TF32)
        up = dot_accumulate(x, up_weight, up, ALLOW_TF32)
        x_ptrs += step * stride_xh
        if not BY_DESCRIPTOR:
            gate_ptrs += step * stride_wk
            up_ptrs += step * stride_wk

    h = round_to(swiglu(gate, up), h_ptr.dtype.element_ty)
    h_ptrs = h_ptr + rows.to(tl.int64)[:, None] * intermediate_size + columns[None, :]
    stored = rows[:, None] < end_row
    if not EVEN_N:
        stored = stored & (columns[None, :] < intermediate_size)
    tl.store(h_ptrs, h, mask=stored)


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
    """One (BLOCK_M, BLOCK_N) tile of h = SiLU(x @ gate^T) * (x @ up^T), rows in schedule order.

    x (T, H), w (E, 2I, H) with the gate's I rows first: any strides. h (T * K, I): contiguous.
    w is a pointer or, BY_DESCRIPTOR, a descriptor of its (E * 2I, H) rows. Rows past the tile's
    end repeat the last valid one, and columns past I that one or whatever rows of w follow, so that
    the main loop needs no mask for them; they are not stored. HALVE_LAST: an expert's last tile
    multiplies only BLOCK_M / 2 rows if it has no more.
    """
    tile, column = tile_of_program(max_tiles, column_tiles, GROUP_M)
    if tile >= tl.load(schedule_ptr):
        return
    expert, first_row, end_row = load_tile(schedule_ptr, tile, max_tiles)
    place = (expert, first_row, end_row, column)
    sizes = (hidden_size, intermediate_size)
    strides = (stride_xt, stride_xh, stride_we, stride_wn, stride_wk)
    if HALVE_LAST:  # noqa: SIM102  Triton evaluates both sides of an `and`
        if end_row - first_row <= BLOCK_M // 2:
            gate_up_tile(
                x_ptr,
                w,
                h_ptr,
                schedule_ptr,
                max_tiles,
                place,
                sizes,
                strides,
                TOP_K,
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
    gate_up_tile(
        x_ptr,
        w,
        h_ptr,
        schedule_ptr,
        max_tiles,
        place,
        sizes,
        strides,
        TOP_K,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
        EVEN_N,
        EVEN_K,
        BY_DESCRIPTOR,
        WEIGHT_EVICTION,
        ALLOW_TF32,
    )


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
    intermediate_size = gate_up_proj.shape[1] // 2
    h = hidden_states.new_empty((schedule.num_slots, intermediate_size))
    launch = _launch(
        hidden_states.device,
        hidden_states.dtype,
        hidden_states.stride(),
        gate_up_proj.shape,
        gate_up_proj.stride(),
        schedule.max_tiles,
        top_k,
        tiles,
        tiles.gate_up.by_descriptor and takes_descriptor(gate_up_proj),
        allow_tf32,
    )
    launch(hidden_states, gate_up_proj, h, schedule.buffer)
    return h


@lru_cache(maxsize=LAUNCHES_KEPT)
def _launch(
    device: torch.device,
    dtype: torch.dtype,
    x_strides: tuple[int, ...],
    w_shape: torch.Size,
    w_strides: tuple[int, ...],
    max_tiles: int,
    top_k: int,
    tiles: TileConfig,
    by_descriptor: bool,
    allow_tf32: bool,
) -> Launch:
    tile = tiles.gate_up
    _, gate_up_rows, hidden_size = w_shape
    intermediate_size = gate_up_rows // 2
    column_tiles = cdiv(intermediate_size, tile.block_n)
    return Launch(
        gate_up_kernel,
        max_tiles * column_tiles,
        (max_tiles, column_tiles, hidden_size, intermediate_size, *x_strides, *w_strides),
        {
            "TOP_K": top_k,
            "BLOCK_M": tiles.block_m,
            "BLOCK_N": tile.block_n,
            "BLOCK_K": tile.block_k,
            "GROUP_M": tile.group_m,
            "HALVE_LAST": tiles.halve_last,
            "EVEN_N": intermediate_size % tile.block_n == 0,
            "EVEN_K": hidden_size % tile.block_k == 0,
            "BY_DESCRIPTOR": by_descriptor,
            "WEIGHT_EVICTION": tiles.weight_eviction,
            "ALLOW_TF32": allow_tf32,
        },
        blocks={1: [tile.block_n, tile.block_k]} if by_descriptor else None,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
