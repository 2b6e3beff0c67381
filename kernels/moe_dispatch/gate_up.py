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

from .gate_up_tile import gate_up_tile, sliced_gate_up_tile
from .launch import Launch, takes_descriptor
from .schedule import is_first_of_expert, load_tile, tile_of_program
from .sizes import cdiv
from .sliced_product import part_of_program
from .tensor_spec import TensorSpec
from .tile_config import TileConfig


@triton.jit(do_not_specialize=["max_tiles", "few_up_to"])
def gate_up_kernel(
    x_ptr,
    w,
    h_ptr,
    schedule_ptr,
    tall_w,
    w_ptr,
    max_tiles,
    column_tiles,
    hidden_size,
    intermediate_size,
    stride_xt,
    stride_xh,
    stride_we,
    stride_wn,
    stride_wk,
    few_up_to,
    TOP_K: tl.constexpr,
    HEIGHTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    TALL_BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    STAGES: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    SLICED_TILE: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """BLOCK_N columns of one tile of h = SiLU(x @ gate^T) * (x @ up^T), rows in schedule order.

    x (T, H), w (E, 2I, H) with the gate's I rows first: any strides. h (T * K, I): contiguous.
    tall_w and w_ptr are w again. w is a pointer or, BY_DESCRIPTOR, a descriptor of its (E * 2I, H)
    rows, and so is tall_w, for the heights but the first. The tile is computed at the least of the
    HEIGHTS that holds its rows; of a height above BLOCK_M, the rest lies beside BLOCK_M rows in
    accumulators of its own. Rows past the tile's end repeat the last valid one, and columns past I
    that one or whatever rows of w follow, so that the main loop needs no mask for them; they are
    not stored.

    SLICED_TILE: `SlicedTile.constants`, or None. Where at most `few_up_to` programs had a tile,
    those of experts with no more rows than the first height are shared out among more.
    """
    num_tiles = tl.load(schedule_ptr)
    program = tl.program_id(0)
    if SLICED_TILE is not None:
        PARTS: tl.constexpr = BLOCK_N // SLICED_TILE[0]
        few = num_tiles * column_tiles <= few_up_to
        program, part = part_of_program(program, few, PARTS)
    if program >= num_tiles * column_tiles:
        return
    tile, column = tile_of_program(program, num_tiles, column_tiles, GROUP_M)
    expert, first_row, end_row = load_tile(schedule_ptr, tile, max_tiles)
    rows = end_row - first_row
    sizes = (hidden_size, intermediate_size)
    x_strides = (stride_xt, stride_xh)
    w_strides = (stride_we, stride_wn, stride_wk)
    if SLICED_TILE is not None:
        # All rows of an expert in the same way: equal tokens have equal bits.
        sliced = few & (rows <= HEIGHTS[0]) & is_first_of_expert(schedule_ptr, tile, expert)
        if sliced:
            sliced_gate_up_tile(
                x_ptr,
                w_ptr,
                h_ptr,
                schedule_ptr,
                max_tiles,
                (expert, first_row, end_row, column * PARTS + part),
                sizes,
                x_strides,
                w_strides,
                TOP_K,
                HEIGHTS[0],
                SLICED_TILE,
                WEIGHT_EVICTION,
                ALLOW_TF32,
            )
        whole = (part == 0) & (not sliced)
    for i in tl.static_range(len(HEIGHTS)):
        mine = (rows > (HEIGHTS[i - 1] if i else 0)) & (rows <= HEIGHTS[i])
        if SLICED_TILE is not None:
            mine = mine & whole
        if mine:
            gate_up_tile(
                x_ptr,
                tall_w if i and TALL_BLOCK_K != BLOCK_K else w,
                h_ptr,
                schedule_ptr,
                max_tiles,
                (expert, first_row, end_row, column),
                sizes,
                x_strides,
                w_strides,
                TOP_K,
                min(HEIGHTS[i], BLOCK_M),
                HEIGHTS[i] - min(HEIGHTS[i], BLOCK_M),
                BLOCK_N,
                TALL_BLOCK_K if i else BLOCK_K,
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
    programs: int,
    tiles: TileConfig,
    allow_tf32: bool,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Plan of h (T * K, I) from hidden_states (T, H), gate_up_proj (E, 2I, H) and a schedule.

    h has hidden_states' dtype and one row per scheduled slot, in schedule order; rows past those
    stay unwritten. max_tiles: the schedule's. programs: few tiles are sliced where no more than
    this many programs had one.
    """
    tile, sliced = tiles.gate_up, tiles.sliced
    tall_block_k = tile.tall_block_k or tile.block_k
    num_slots = hidden_states.shape[0] * top_k
    _, gate_up_rows, hidden_size = gate_up_proj.shape
    intermediate_size = gate_up_rows // 2
    column_tiles = cdiv(intermediate_size, tile.block_n)
    few_tiles = min(max_tiles, programs // column_tiles)
    sliced_tile = sliced and sliced.constants(tile, matrices=2, size_k=hidden_size)
    parts = tile.block_n // sliced_tile[0] if sliced_tile else 1
    by_descriptor = tile.by_descriptor and takes_descriptor(gate_up_proj)
    blocks = {1: (gate_up_proj, [tile.block_n, tile.block_k])}
    if tall_block_k != tile.block_k:
        blocks[4] = (gate_up_proj, [tile.block_n, tall_block_k])
    launch = Launch(
        gate_up_kernel,
        column_tiles * max(max_tiles, few_tiles * parts),
        (
            max_tiles,
            column_tiles,
            hidden_size,
            intermediate_size,
            *hidden_states.strides,
            *gate_up_proj.strides,
            programs,
        ),
        {
            "TOP_K": top_k,
            "HEIGHTS": tiles.heights,
            "BLOCK_M": tiles.block_m,
            "BLOCK_N": tile.block_n,
            "BLOCK_K": tile.block_k,
            "TALL_BLOCK_K": tall_block_k,
            "GROUP_M": tile.group_m,
            "STAGES": tile.num_stages,
            "EVEN_N": intermediate_size % tile.block_n == 0,
            "EVEN_K": hidden_size % max(tile.block_k, tall_block_k) == 0,
            "SLICED_TILE": sliced_tile,
            "BY_DESCRIPTOR": by_descriptor,
            "WEIGHT_EVICTION": tiles.weight_eviction,
            "ALLOW_TF32": allow_tf32,
        },
        blocks=blocks if by_descriptor else None,
        **tile.options,
    )

    def gate_up(
        hidden_states: torch.Tensor, gate_up_proj: torch.Tensor, schedule: torch.Tensor
    ) -> torch.Tensor:
        h = hidden_states.new_empty(num_slots, intermediate_size)
        launch(hidden_states, gate_up_proj, h, schedule, gate_up_proj, gate_up_proj)
        return h

    return gate_up
