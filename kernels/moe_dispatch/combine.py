"""Weighted sum of each token's K expert outputs, always in the order k = 0 .. K-1."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from .launch import Launch
from .numerics import round_to, to_float32
from .sizes import cdiv, next_power_of_2
from .target import INTERPRETED
from .tensor_spec import TensorSpec

_MAX_BLOCK_H = 1024
_BLOCK_T = 16 if INTERPRETED else 1
_UNROLL = 8
"""Slots whose rows are loaded before the first is needed."""


@triton.jit(do_not_specialize=["num_tokens"])
def combine_kernel(
    y_ptr,
    ids_ptr,
    weights_ptr,
    out_ptr,
    num_tokens,
    column_blocks,
    hidden_size,
    stride_it,
    stride_ik,
    stride_wt,
    stride_wk,
    NUM_EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """out[t] = sum over k of weights[t, k] * y[t * K + k], in float32, rounded once.

    y (T * K, H), out (T, H): contiguous. Slots whose id lies outside [0, E) are neither read nor
    added.
    """
    program = tl.program_id(0)
    token = (program // column_blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    columns = (program % column_blocks) * BLOCK_H + tl.arange(0, BLOCK_H)
    is_token = token < num_tokens
    is_column = columns[None, :] < hidden_size
    token = token.to(tl.int64)

    total = tl.full((BLOCK_T, BLOCK_H), 0.0, tl.float32)
    for k in tl.range(0, TOP_K, loop_unroll_factor=UNROLL):
        step = tl.cast(k, tl.int64)
        expert = tl.load(ids_ptr + token * stride_it + step * stride_ik, mask=is_token, other=-1)
        routed = (expert >= 0) & (expert < NUM_EXPERTS)
        weight_ptrs = weights_ptr + token * stride_wt + step * stride_wk
        weight = to_float32(tl.load(weight_ptrs, mask=routed, other=0.0))
        y_ptrs = y_ptr + (token * TOP_K + step)[:, None] * hidden_size + columns[None, :]
        y = to_float32(tl.load(y_ptrs, mask=routed[:, None] & is_column, other=0.0))
        total = tl.fma(tl.broadcast_to(weight[:, None], (BLOCK_T, BLOCK_H)), y, total)

    out_ptrs = out_ptr + token[:, None] * hidden_size + columns[None, :]
    tl.store(
        out_ptrs, round_to(total, out_ptr.dtype.element_ty), mask=is_token[:, None] & is_column
    )


def plan_combine(
    y: TensorSpec, topk_ids: TensorSpec, topk_weights: TensorSpec, *, num_experts: int
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Plan of (T, H) in y's dtype from y (T * K, H), `down`'s result, ids and weights (T, K)."""
    hidden_size = y.shape[1]
    num_tokens, top_k = topk_ids.shape
    block_h = min(_MAX_BLOCK_H, next_power_of_2(hidden_size))
    column_blocks = cdiv(hidden_size, block_h)
    launch = Launch(
        combine_kernel,
        cdiv(num_tokens, _BLOCK_T) * column_blocks,
        (num_tokens, column_blocks, hidden_size, *topk_ids.strides, *topk_weights.strides),
        {
            "NUM_EXPERTS": num_experts,
            "TOP_K": top_k,
            "BLOCK_T": _BLOCK_T,
            "BLOCK_H": block_h,
            "UNROLL": min(top_k, _UNROLL),
        },
    )

    def combine(
        y: torch.Tensor, topk_ids: torch.Tensor, topk_weights: torch.Tensor
    ) -> torch.Tensor:
        out = y.new_empty(num_tokens, hidden_size)
        launch(y, topk_ids, topk_weights, out)
        return out

    return combine
