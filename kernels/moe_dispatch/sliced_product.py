"""A product whose sums along K are split between the warps of one program.

Where a few experts get all the tokens, ordinary tiles leave most multiprocessors without work. A
tile of fewer columns gives more programs, but too few rows of weights for the matrix instructions
of several warps. So K is split instead: each warp multiplies a slice of every step along K, and the
slices' sums are added at the end, always in the same order. Split-K, but within a program (CUTLASS,
"Efficient GEMM in CUDA", calls it sliced-K): it needs no memory for partial sums and no second
pass.
"""

from __future__ import annotations

import triton.language as tl

from .numerics import dot_accumulate
from .target import device_function


@device_function
def part_of_program(program, few, PARTS: tl.constexpr):
    """(program, part): where tiles are few, PARTS programs in turn share what one would do."""
    parts = tl.where(few, PARTS, 1)
    return program // parts, program % parts


@device_function
def sliced_product(
    w_ptr,
    w_rows,
    stride_wk,
    x_ptr,
    x_rows,
    stride_xk,
    size_k,
    TILE: tl.constexpr,
    WEIGHT_EVICTION: tl.constexpr,
    ALLOW_TF32: tl.constexpr,
):
    """(N, ROWS) float32: w @ x^T of the rows that begin at these elements, `size_k` long.

    w_rows: (N,) int64. x_rows: (ROWS,) int64. TILE: `SlicedTile.constants`.
    """
    BLOCK_K: tl.constexpr = TILE[1]
    SLICES: tl.constexpr = TILE[2]
    EVEN_K: tl.constexpr = TILE[4]
    DEPTH: tl.constexpr = BLOCK_K // SLICES
    k = tl.arange(0, SLICES)[:, None] * DEPTH + tl.arange(0, DEPTH)[None, :]
    w_ptrs = w_ptr + w_rows[None, :, None] + k.to(tl.int64)[:, None, :] * stride_wk
    x_ptrs = x_ptr + x_rows[None, None, :] + k.to(tl.int64)[:, :, None] * stride_xk
    step = tl.full((), BLOCK_K, tl.int64)
    sums = tl.full((SLICES, w_rows.shape[0], x_rows.shape[0]), 0.0, tl.float32)
    for first_k in tl.range(0, size_k, BLOCK_K, num_stages=TILE[3]):
        if EVEN_K:
            w = tl.load(w_ptrs, eviction_policy=WEIGHT_EVICTION)
            x = tl.load(x_ptrs)
        else:
            inside = first_k + k < size_k
            w = tl.load(w_ptrs, mask=inside[:, None, :], other=0.0, eviction_policy=WEIGHT_EVICTION)
            x = tl.load(x_ptrs, mask=inside[:, :, None], other=0.0)
        sums = dot_accumulate(w, x, sums, ALLOW_TF32)
        w_ptrs += step * stride_wk
        x_ptrs += step * stride_xk
    return tl.sum(sums, axis=0)
