"""The first grouped GEMM for many rows an expert: gate and up in a single product.

A block of the gate's rows and the block of up's below it are loaded together, as one block of twice
as many rows: a descriptor of three dimensions sees each expert's weights as two matrices. The
tokens' rows are the first operand: a warp group multiplies 64 of them by 256 rows of weights in a
single wgmma, which reads the least from shared memory for its products (PTX ISA, wgmma.mma_async:
N up to 256).

Tiles higher than BLOCK_M are `tall_gate_up_tile`'s. Either way the sums run along K in the same
steps as in `gate_up`, to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from .gate_up_tile import load_x, store_h, x_pointers
from .launch import Launch
from .numerics import dot_accumulate
from .schedule import load_tile, tile_of_program
from .sizes import cdiv
from .tall_gate_up import tall_gate_up_tile
from .target import device_function
from .tensor_spec import TensorSpec
from .tile_config import GemmTile


@device_function
def joint_gate_up_tile(
    x_ptr,
    w,
    h_ptr,
    schedule_ptr,
    max_tiles,
    place,
    sizes,
    x_strides,
    TOP_K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NUM_STAGES: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """The kernel's tile of ROWS at (expert, rows, columns)."""
    expert, first_row, end_row, column = place
    hidden_size, intermediate_size = sizes
    first_column = column * BLOCK_N
    columns = first_column + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    step = tl.full((), BLOCK_K, tl.int64) * x_strides[1]
    x_ptrs = x_pointers(
        x_ptr, schedule_ptr, max_tiles, first_row, end_row, k, x_strides, TOP_K, ROWS
    )
    joint = tl.full((ROWS, 2 * BLOCK_N), 0.0, tl.float32)

    for first_k in tl.range(0, hidden_size, BLOCK_K, num_stages=NUM_STAGES):
        # Past I and past H there are zeros.
        weights = w.load([expert * 2, first_column, first_k])
        weights = tl.reshape(weights, (2 * BLOCK_N, BLOCK_K))
        x = load_x(x_ptrs, first_k + k, hidden_size, EVEN_K)
        joint = dot_accumulate(x.T, weights.T, joint, ALLOW_TF32)
        x_ptrs += step

    gate, up = tl.split(tl.permute(tl.reshape(joint, (ROWS, 2, BLOCK_N)), (0, 2, 1)))
    # As they lie: stored transposed, the sums can make ptxas have each product of the loop wait for
    # the one before it (C7515, "wgmma.mma_async instructions are serialized").
    rows = first_row + tl.arange(0, ROWS)[:, None]
    store_h(h_ptr, gate, up, rows, end_row, columns[None, :], intermediate_size, EVEN_N)


@triton.jit(do_not_specialize=["max_tiles"])
def joint_gate_up_kernel(
    x_ptr,
    w,
    w_rows,
    h_ptr,
    schedule_ptr,
    max_tiles,
    column_tiles,
    hidden_size,
    intermediate_size,
    stride_xt,
    stride_xh,
    TOP_K: tl.constexpr,
    HEIGHTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    STAGES: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """BLOCK_N columns of one tile of h = SiLU(x @ gate^T) * (x @ up^T), rows in schedule order.

    x (T, H): any strides. w: a descriptor of the experts' gates and ups in turn, (2E, I, H);
    w_rows: one of their (E * 2I, H) rows. h (T * K, I): contiguous. Heights, and rows past the
    tile's end, as in `gate_up_kernel`.
    """
    num_tiles = tl.load(schedule_ptr)
    if tl.program_id(0) >= num_tiles * column_tiles:
        return
    tile, column = tile_of_program(tl.program_id(0), num_tiles, column_tiles, GROUP_M)
    expert, first_row, end_row = load_tile(schedule_ptr, tile, max_tiles)
    rows = end_row - first_row
    for i in tl.static_range(len(HEIGHTS)):
        if (rows > (HEIGHTS[i - 1] if i else 0)) & (rows <= HEIGHTS[i]):
            place = (expert, first_row, end_row, column)
            sizes = (hidden_size, intermediate_size)
            x_strides = (stride_xt, stride_xh)
            if HEIGHTS[i] > BLOCK_M:
                tall_gate_up_tile(
                    x_ptr,
                    w_rows,
                    h_ptr,
                    schedule_ptr,
                    max_tiles,
                    place,
                    sizes,
                    x_strides,
                    TOP_K,
                    BLOCK_M,
                    HEIGHTS[i] - BLOCK_M,
                    BLOCK_N,
                    BLOCK_K,
                    STAGES[i],
                    EVEN_N,
                    EVEN_K,
                    ALLOW_TF32,
                )
            else:
                joint_gate_up_tile(
                    x_ptr,
                    w,
                    h_ptr,
                    schedule_ptr,
                    max_tiles,
                    place,
                    sizes,
                    x_strides,
                    TOP_K,
                    HEIGHTS[i],
                    BLOCK_N,
                    BLOCK_K,
                    STAGES[i],
                    EVEN_N,
                    EVEN_K,
                    ALLOW_TF32,
                )


def plan_joint_gate_up(
    hidden_states: TensorSpec,
    gate_up_proj: TensorSpec,
    *,
    max_tiles: int,
    top_k: int,
    heights: tuple[int, ...],
    block_m: int,
    tile: GemmTile,
    allow_tf32: bool,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Plan like `plan_gate_up`'s, for a gate_up_proj that takes a descriptor.

    heights, block_m: the schedule's (see `TileConfig`).
    """
    num_slots = hidden_states.shape[0] * top_k
    num_experts, gate_up_rows, hidden_size = gate_up_proj.shape
    intermediate_size = gate_up_rows // 2
    row_stride = gate_up_proj.strides[1]
    gates_and_ups = gate_up_proj._replace(
        shape=(2 * num_experts, intermediate_size, hidden_size),
        strides=(intermediate_size * row_stride, row_stride, 1),
    )
    column_tiles = cdiv(intermediate_size, tile.block_n)
    launch = Launch(
        joint_gate_up_kernel,
        max_tiles * column_tiles,
        (max_tiles, column_tiles, hidden_size, intermediate_size, *hidden_states.strides),
        {
            "TOP_K": top_k,
            "HEIGHTS": heights,
            "BLOCK_M": block_m,
            "BLOCK_N": tile.block_n,
            "BLOCK_K": tile.block_k,
            "GROUP_M": tile.group_m,
            "STAGES": tile.num_stages,
            "EVEN_N": intermediate_size % tile.block_n == 0,
            "EVEN_K": hidden_size % tile.block_k == 0,
            "ALLOW_TF32": allow_tf32,
        },
        blocks={
            1: (gates_and_ups, [2, tile.block_n, tile.block_k]),
            2: (gate_up_proj, [tile.block_n, tile.block_k]),
        },
        **tile.options,
    )

    def joint_gate_up(
        hidden_states: torch.Tensor, gate_up_proj: torch.Tensor, schedule: torch.Tensor
    ) -> torch.Tensor:
        h = hidden_states.new_empty(num_slots, intermediate_size)
        launch(hidden_states, gate_up_proj, gate_up_proj, h, schedule)
        return h

    return joint_gate_up
