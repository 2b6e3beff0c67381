"""A single token, or a few that hardly share experts: matrix-vector products, without a schedule.

One row per expert leaves the matrix units idle and the memory as the only limit. So weights go
straight from memory to registers, and `down` adds up a token's experts itself: two launches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from .activation import swiglu
from .gemv_config import GemvConfig, GemvTile
from .launch import Launch
from .numerics import round_to, to_float32
from .sizes import cdiv
from .target import device_function
from .tensor_spec import TensorSpec

_MAX_UNROLL = 8
"""Experts of one token whose loads may overlap."""


@device_function
def multiply_accumulate(weight, vector, accumulator):
    """accumulator + weight * vector, element by element in float32: (N, K), (K,) and (N, K)."""
    vector = tl.broadcast_to(to_float32(vector)[None, :], accumulator.shape)
    return tl.fma(to_float32(weight), vector, accumulator)


@triton.jit
def gemv_gate_up_kernel(
    x_ptr,
    w_ptr,
    ids_ptr,
    h_ptr,
    stride_xt,
    stride_xh,
    stride_we,
    stride_wn,
    stride_wk,
    stride_it,
    stride_ik,
    HIDDEN_SIZE: tl.constexpr,
    INTERMEDIATE_SIZE: tl.constexpr,
    NUM_EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """BLOCK_N columns of h[slot] = SiLU(gate @ x) * (up @ x).

    x (T, H), w (E, 2I, H) and ids (T, K): any strides. h (T * K, I): contiguous, in slot order.
    """
    column_tiles: tl.constexpr = (INTERMEDIATE_SIZE + BLOCK_N - 1) // BLOCK_N
    slot = tl.program_id(0) // column_tiles
    columns = (tl.program_id(0) % column_tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    token = (slot // TOP_K).to(tl.int64)
    expert = tl.load(ids_ptr + token * stride_it + (slot % TOP_K).to(tl.int64) * stride_ik)
    if (expert < 0) | (expert >= NUM_EXPERTS):
        return
    k = tl.arange(0, BLOCK_K)
    x_ptrs = x_ptr + token * stride_xt + k.to(tl.int64) * stride_xh
    rows = tl.minimum(columns, INTERMEDIATE_SIZE - 1).to(tl.int64)
    gate_ptrs = (
        w_ptr
        + expert.to(tl.int64) * stride_we
        + rows[:, None] * stride_wn
        + k.to(tl.int64)[None, :] * stride_wk
    )
    up_ptrs = gate_ptrs + tl.full((), INTERMEDIATE_SIZE, tl.int64) * stride_wn
    step = tl.full((), BLOCK_K, tl.int64)

    gate = tl.full((BLOCK_N, BLOCK_K), 0.0, tl.float32)
    up = tl.full((BLOCK_N, BLOCK_K), 0.0, tl.float32)
    for first_k in range(0, HIDDEN_SIZE, BLOCK_K):
        if HIDDEN_SIZE % BLOCK_K == 0:
            x = tl.load(x_ptrs)
            gate_weight = tl.load(gate_ptrs, eviction_policy="evict_first")
            up_weight = tl.load(up_ptrs, eviction_policy="evict_first")
        else:
            inside = first_k + k < HIDDEN_SIZE
            x = tl.load(x_ptrs, mask=inside, other=0.0)
            gate_weight = tl.load(
                gate_ptrs, mask=inside[None, :], other=0.0, eviction_policy="evict_first"
            )
            up_weight = tl.load(
                up_ptrs, mask=inside[None, :], other=0.0, eviction_policy="evict_first"
            )
        gate = multiply_accumulate(gate_weight, x, gate)
        up = multiply_accumulate(up_weight, x, up)
        x_ptrs += step * stride_xh
        gate_ptrs += step * stride_wk
        up_ptrs += step * stride_wk

    h = round_to(swiglu(tl.sum(gate, axis=1), tl.sum(up, axis=1)), h_ptr.dtype.element_ty)
    tl.store(
        h_ptr + slot.to(tl.int64) * INTERMEDIATE_SIZE + columns,
        h,
        mask=columns < INTERMEDIATE_SIZE,
    )


@triton.jit
def gemv_down_kernel(
    h_ptr,
    w_ptr,
    ids_ptr,
    weights_ptr,
    out_ptr,
    stride_we,
    stride_wn,
    stride_wk,
    stride_it,
    stride_ik,
    stride_rt,
    stride_rk,
    HIDDEN_SIZE: tl.constexpr,
    INTERMEDIATE_SIZE: tl.constexpr,
    NUM_EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """BLOCK_N columns of out[token] = sum over k of weights[token, k] * round(down @ h[slot]).

    h (T * K, I) and out (T, H): contiguous. w (E, H, I), ids and weights (T, K): any strides. The
    sum is `combine`'s: in float32, in the order of k, rounded once.
    """
    column_tiles: tl.constexpr = (HIDDEN_SIZE + BLOCK_N - 1) // BLOCK_N
    token = (tl.program_id(0) // column_tiles).to(tl.int64)
    columns = (tl.program_id(0) % column_tiles) * BLOCK_N + tl.arange(0, BLOCK_N)
    rows = tl.minimum(columns, HIDDEN_SIZE - 1).to(tl.int64)
    i = tl.arange(0, BLOCK_K)
    offsets = rows[:, None] * stride_wn + i.to(tl.int64)[None, :] * stride_wk
    step = tl.full((), BLOCK_K, tl.int64)

    total = tl.full((BLOCK_N,), 0.0, tl.float32)
    for k in tl.range(0, TOP_K, loop_unroll_factor=UNROLL):
        slot_step = tl.cast(k, tl.int64)
        expert = tl.load(ids_ptr + token * stride_it + slot_step * stride_ik)
        routed = (expert >= 0) & (expert < NUM_EXPERTS)
        length = tl.where(routed, INTERMEDIATE_SIZE, 0)
        h_ptrs = h_ptr + (token * TOP_K + slot_step) * INTERMEDIATE_SIZE + i
        w_ptrs = w_ptr + tl.where(routed, expert, 0).to(tl.int64) * stride_we + offsets
        y = tl.full((BLOCK_N, BLOCK_K), 0.0, tl.float32)
        for first_i in range(0, INTERMEDIATE_SIZE, BLOCK_K):
            inside = first_i + i < length
            h = tl.load(h_ptrs, mask=inside, other=0.0)
            weight = tl.load(w_ptrs, mask=inside[None, :], other=0.0, eviction_policy="evict_first")
            y = multiply_accumulate(weight, h, y)
            h_ptrs += BLOCK_K
            w_ptrs += step * stride_wk
        weight_ptr = weights_ptr + token * stride_rt + slot_step * stride_rk
        routing_weight = to_float32(tl.load(weight_ptr, mask=routed, other=0.0))
        rounded = to_float32(round_to(tl.sum(y, axis=1), out_ptr.dtype.element_ty))
        total = tl.fma(tl.broadcast_to(routing_weight, (BLOCK_N,)), rounded, total)

    tl.store(
        out_ptr + token * HIDDEN_SIZE + columns,
        round_to(total, out_ptr.dtype.element_ty),
        mask=columns < HIDDEN_SIZE,
    )


def plan_gemv_experts(
    hidden_states: TensorSpec,
    gate_up_proj: TensorSpec,
    down_proj: TensorSpec,
    topk_ids: TensorSpec,
    topk_weights: TensorSpec,
    *,
    config: GemvConfig,
) -> Callable[..., torch.Tensor]:
    """Plan of `api.fused_experts`, each slot on its own."""
    gate_up = plan_gemv_gate_up(hidden_states, gate_up_proj, topk_ids, tile=config.gate_up)
    down = plan_gemv_down(down_proj, topk_ids, topk_weights, tile=config.down)

    def gemv_experts(
        hidden_states: torch.Tensor,
        gate_up_proj: torch.Tensor,
        down_proj: torch.Tensor,
        topk_ids: torch.Tensor,
        topk_weights: torch.Tensor,
    ) -> torch.Tensor:
        h = gate_up(hidden_states, gate_up_proj, topk_ids)
        return down(h, down_proj, topk_ids, topk_weights)

    return gemv_experts


def plan_gemv_gate_up(
    hidden_states: TensorSpec, gate_up_proj: TensorSpec, topk_ids: TensorSpec, *, tile: GemvTile
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Plan of h (T * K, I) from hidden_states (T, H), gate_up_proj (E, 2I, H) and topk_ids (T, K).

    h has hidden_states' dtype and one row per slot; those of ids outside are unwritten.
    """
    num_tokens, top_k = topk_ids.shape
    num_experts, gate_up_rows, hidden_size = gate_up_proj.shape
    num_slots, intermediate_size = num_tokens * top_k, gate_up_rows // 2
    launch = Launch(
        gemv_gate_up_kernel,
        num_slots * cdiv(intermediate_size, tile.block_n),
        (*hidden_states.strides, *gate_up_proj.strides, *topk_ids.strides),
        _constants(hidden_size, intermediate_size, num_experts, top_k, tile),
        num_warps=tile.num_warps,
    )

    def gemv_gate_up(
        hidden_states: torch.Tensor, gate_up_proj: torch.Tensor, topk_ids: torch.Tensor
    ) -> torch.Tensor:
        h = hidden_states.new_empty(num_slots, intermediate_size)
        launch(hidden_states, gate_up_proj, topk_ids, h)
        return h

    return gemv_gate_up


def plan_gemv_down(
    down_proj: TensorSpec, topk_ids: TensorSpec, topk_weights: TensorSpec, *, tile: GemvTile
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Plan of (T, H) from h (T * K, I), `gemv_gate_up`'s result, and down_proj (E, H, I).

    topk_ids, topk_weights: (T, K). The result has h's dtype, which is down_proj's.
    """
    num_tokens, top_k = topk_ids.shape
    num_experts, hidden_size, intermediate_size = down_proj.shape
    constants = _constants(hidden_size, intermediate_size, num_experts, top_k, tile)
    launch = Launch(
        gemv_down_kernel,
        num_tokens * cdiv(hidden_size, tile.block_n),
        (*down_proj.strides, *topk_ids.strides, *topk_weights.strides),
        {**constants, "UNROLL": min(top_k, _MAX_UNROLL)},
        num_warps=tile.num_warps,
    )

    def gemv_down(
        h: torch.Tensor,
        down_proj: torch.Tensor,
        topk_ids: torch.Tensor,
        topk_weights: torch.Tensor,
    ) -> torch.Tensor:
        out = h.new_empty(num_tokens, hidden_size)
        launch(h, down_proj, topk_ids, topk_weights, out)
        return out

    return gemv_down


def _constants(
    hidden_size: int, intermediate_size: int, num_experts: int, top_k: int, tile: GemvTile
) -> dict[str, int]:
    """The compile-time constants that both kernels take, in their order."""
    return {
        "HIDDEN_SIZE": hidden_size,
        "INTERMEDIATE_SIZE": intermediate_size,
        "NUM_EXPERTS": num_experts,
        "TOP_K": top_k,
        "BLOCK_N": tile.block_n,
        "BLOCK_K": tile.block_k,
    }
