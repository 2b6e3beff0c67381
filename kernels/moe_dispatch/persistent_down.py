"""The second grouped GEMM for many short rows of h: as many programs as multiprocessors.

A tile of a few K steps spends much of its time on its beginning and its end. Here each program
works through its tiles in a single loop over all their steps (`flatten`): it already fetches what
the next tile begins with while it multiplies and stores the last. One loop has one shape of
accumulators, so these tiles are cut without tails.

The rows of h are the first operand: a warp group multiplies 64 of them by 256 rows of weights in a
single wgmma, which reads the least from shared memory for its products (PTX ISA, wgmma.mma_async:
N up to 256). The sums run along K in the same steps as in `down`, to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from .down_tile import store_y
from .launch import Launch
from .numerics import dot_accumulate
from .schedule import load_tile, tile_of_program, tiles_without_tails
from .sizes import cdiv
from .tensor_spec import TensorSpec
from .tile_config import GemmTile


@triton.jit(do_not_specialize=["max_tiles", "num_slots"])
def persistent_down_kernel(
    h,
    w,
    y_ptr,
    schedule_ptr,
    max_tiles,
    num_slots,
    column_tiles,
    intermediate_size,
    hidden_size,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    NUM_STAGES: tl.constexpr,
    EVEN_N: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """y = h @ down^T, stored at the rows' slots, in tiles of (BLOCK_M, BLOCK_N).

    h, w: descriptors of h (T * K, I), rows in schedule order, and of down's (E * H, I) rows.
    y (T * K, H): contiguous, rows in slot order. Rows past a tile's end and columns past H are
    whatever rows follow; they are not stored. Past I there are zeros.
    """
    tiles_ptr = tiles_without_tails(schedule_ptr, max_tiles, num_slots)
    num_tiles = tl.load(tiles_ptr)
    for program in tl.range(
        tl.program_id(0),
        num_tiles * column_tiles,
        tl.num_programs(0),
        num_stages=NUM_STAGES,
        flatten=True,
    ):
        tile, column = tile_of_program(program, num_tiles, column_tiles, GROUP_M)
        expert, first_row, end_row = load_tile(tiles_ptr, tile, max_tiles)
        first_column = column * BLOCK_N
        y = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
        for first_k in range(0, intermediate_size, BLOCK_K):
            rows = h.load([first_row, first_k])
            weights = w.load([expert * hidden_size + first_column, first_k])
            y = dot_accumulate(rows, weights.T, y, ALLOW_TF32)
        store_y(
            y_ptr,
            y.T,
            schedule_ptr,
            max_tiles,
            first_row,
            end_row,
            first_column + tl.arange(0, BLOCK_N),
            hidden_size,
            BLOCK_M,
            EVEN_N,
        )


def plan_persistent_down(
    h: TensorSpec,
    down_proj: TensorSpec,
    *,
    max_tiles: int,
    programs: int,
    block_m: int,
    tile: GemmTile,
    allow_tf32: bool,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Plan like `plan_down`'s, for a schedule that also holds tiles without tails.

    h, down_proj: take a descriptor. programs: at most this many.
    """
    num_slots = h.shape[0]
    _, hidden_size, intermediate_size = down_proj.shape
    column_tiles = cdiv(hidden_size, tile.block_n)
    launch = Launch(
        persistent_down_kernel,
        min(programs, max_tiles * column_tiles),
        (max_tiles, num_slots, column_tiles, intermediate_size, hidden_size),
        {
            "BLOCK_M": block_m,
            "BLOCK_N": tile.block_n,
            "BLOCK_K": tile.block_k,
            "GROUP_M": tile.group_m,
            "NUM_STAGES": tile.num_stages[0],
            "EVEN_N": hidden_size % tile.block_n == 0,
            "ALLOW_TF32": allow_tf32,
        },
        blocks={0: (h, [block_m, tile.block_k]), 1: (down_proj, [tile.block_n, tile.block_k])},
        **tile.options,
    )

    def persistent_down(
        h: torch.Tensor, down_proj: torch.Tensor, schedule: torch.Tensor
    ) -> torch.Tensor:
        y = h.new_empty(num_slots, hidden_size)
        launch(h, down_proj, y, schedule)
        return y

    return persistent_down
