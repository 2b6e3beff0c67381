"""Second grouped GEMM: each scheduled row times its expert's down projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

from .down_tile import down_tile, sliced_down_tile
from .launch import Launch, takes_descriptor
from .schedule import is_first_of_expert, load_tile, tile_of_program
from .sizes import cdiv
from .sliced_product import part_of_program
from .target import device_function
from .tensor_spec import TensorSpec
from .tile_config import GemmTile, TileConfig


@device_function
def down_program(
    h_ptr,
    h_rows,
    w,
    w_ptr,
    y_ptr,
    schedule_ptr,
    max_tiles,
    num_tiles,
    column_tiles,
    few,
    sizes,
    w_strides,
    HEIGHTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    TILE: tl.constexpr,
    SLICED_TILE: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    H_BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """`down_kernel`'s tile of this program, if it has one, at the height that its rows ask for."""
    program = tl.program_id(0)
    if SLICED_TILE is not None:
        PARTS: tl.constexpr = TILE[0] // SLICED_TILE[0]
        program, part = part_of_program(program, few, PARTS)
    if program < num_tiles * column_tiles:
        tile, column = tile_of_program(program, num_tiles, column_tiles, TILE[2])
        expert, first_row, end_row = load_tile(schedule_ptr, tile, max_tiles)
        rows = end_row - first_row
        if SLICED_TILE is not None:
            # All rows of an expert in the same way: equal tokens have equal bits.
            sliced = few & (rows <= HEIGHTS[0]) & is_first_of_expert(schedule_ptr, tile, expert)
            if sliced:
                sliced_down_tile(
                    h_ptr,
                    w_ptr,
                    y_ptr,
                    schedule_ptr,
                    max_tiles,
                    (expert, first_row, end_row, column * PARTS + part),
                    sizes,
                    w_strides,
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


@triton.jit(do_not_specialize=["max_tiles", "few_up_to"])
def down_kernel(
    h_ptr,
    h_rows,
    w,
    narrow_w,
    w_ptr,
    y_ptr,
    schedule_ptr,
    max_tiles,
    column_tiles,
    narrow_column_tiles,
    few_up_to,
    intermediate_size,
    hidden_size,
    stride_we,
    stride_wn,
    stride_wk,
    HEIGHTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    TILE: tl.constexpr,
    NARROW_TILE: tl.constexpr,
    SLICED_TILE: tl.constexpr,
    BY_DESCRIPTOR: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """BLOCK_N columns of one tile of y = h @ down^T, stored at the rows' slots.

    h (T * K, I): contiguous, rows in schedule order; h_rows is h again. w (E, H, I): any strides;
    narrow_w and w_ptr are w again. BY_DESCRIPTOR, h_rows is a descriptor of h's rows, w and
    narrow_w are ones of w's (E * H, I) rows, and BLOCK_M rows of h are loaded at once. y (T * K,
    H): contiguous, rows in slot order. Transposed and as high as its rows ask for, like
    `gate_up_kernel`'s tiles. Rows past the tile's end and columns past H repeat the last valid one,
    or are whatever rows follow, so that the main loop needs no mask for them; they are not stored.

    TILE, NARROW_TILE: BLOCK_N, BLOCK_K, GROUP_M, STAGES, EVEN_N and EVEN_K. SLICED_TILE:
    `SlicedTile.constants`. The work of at most `few_up_to` programs is shared out among more: in
    narrow tiles, if there are such, or, of experts with few rows, in sliced ones.
    """
    num_tiles = tl.load(schedule_ptr)
    sizes = (intermediate_size, hidden_size)
    w_strides = (stride_we, stride_wn, stride_wk)
    few = num_tiles * column_tiles <= few_up_to
    if NARROW_TILE is None or not few:
        down_program(
            h_ptr,
            h_rows,
            w,
            w_ptr,
            y_ptr,
            schedule_ptr,
            max_tiles,
            num_tiles,
            column_tiles,
            few,
            sizes,
            w_strides,
            HEIGHTS,
            BLOCK_M,
            TILE,
            SLICED_TILE,
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
            w_ptr,
            y_ptr,
            schedule_ptr,
            max_tiles,
            num_tiles,
            narrow_column_tiles,
            few,
            sizes,
            w_strides,
            HEIGHTS,
            BLOCK_M,
            NARROW_TILE,
            None,
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
    or sliced where no more than this many programs had one.
    """
    tile, narrow, sliced = tiles.down, tiles.narrow_down, tiles.sliced
    num_slots = h.shape[0]
    _, hidden_size, intermediate_size = down_proj.shape
    column_tiles = cdiv(hidden_size, tile.block_n)
    narrow_column_tiles = 0 if narrow is None else cdiv(hidden_size, narrow.block_n)
    few_tiles = min(max_tiles, programs // column_tiles)
    sliced_tile = sliced and sliced.constants(tile, matrices=1, size_k=intermediate_size)
    parts = tile.block_n // sliced_tile[0] if sliced_tile else 1
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
        max(
            max_tiles * column_tiles,
            few_tiles * narrow_column_tiles,
            few_tiles * column_tiles * parts,
        ),
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
            "SLICED_TILE": sliced_tile,
            "BY_DESCRIPTOR": by_descriptor,
            "WEIGHT_EVICTION": tiles.weight_eviction,
            "ALLOW_TF32": allow_tf32,
        },
        blocks=blocks if by_descriptor else None,
        **tile.options,
    )

    def down(h: torch.Tensor, down_proj: torch.Tensor, schedule: torch.Tensor) -> torch.Tensor:
        y = h.new_empty(num_slots, hidden_size)
        launch(h, h, down_proj, down_proj, down_proj, y, schedule)
        return y

    return down
