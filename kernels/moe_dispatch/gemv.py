"""A single token, or a few that hardly share experts: matrix-vector products, without a schedule.

One row per expert leaves the matrix units idle and the memory as the only limit. So weights go
straight from memory to registers, and `down` adds up a token's experts itself: two launches.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl

from .activation import swiglu
from .launch import LAUNCHES_KEPT, Launch
from .numerics import round_to, to_float32
from .sizes import cdiv
from .target import device_function
from .tile_config import GemvConfig, GemvTile

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


def gemv_experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    *,
    config: GemvConfig,
) -> torch.Tensor:
    """`api.fused_experts` without its checks, each slot on its own."""
    h = gemv_gate_up(hidden_states, gate_up_proj, topk_ids, config.gate_up)
    return gemv_down(h, down_proj, topk_ids, topk_weights, config.down)


def gemv_gate_up(
    hidden_states: torch.Tensor, gate_up_proj: torch.Tensor, topk_ids: torch.Tensor, tile: GemvTile
) -> torch.Tensor:
    """h (T * K, I) in hidden_states' dtype, one row per slot; those of ids outside are unwritten.

    hidden_states: (T, H). gate_up_proj: (E, 2I, H). topk_ids: (T, K).
    """
    h = hidden_states.new_empty((topk_ids.numel(), gate_up_proj.shape[1] // 2))
    launch = _gate_up_launch(
        hidden_states.device,
        (hidden_states.dtype, topk_ids.dtype),
        topk_ids.shape,
        gate_up_proj.shape,
        (*hidden_states.stride(), *gate_up_proj.stride(), *topk_ids.stride()),
        tile,
    )
    launch(hidden_states, gate_up_proj, topk_ids, h)
    return h


def gemv_down(
    h: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    tile: GemvTile,
) -> torch.Tensor:
    """(T, H) in h's dtype from h (T * K, I), `gemv_gate_up`'s result, and down_proj (E, H, I).

    topk_ids, topk_weights: (T, K).
    """
    out = h.new_empty((topk_ids.shape[0], down_proj.shape[1]))
    launch = _down_launch(
        h.device,
        (h.dtype, topk_ids.dtype, topk_weights.dtype),
        topk_ids.shape,
        down_proj.shape,
        (*down_proj.stride(), *topk_ids.stride(), *topk_weights.stride()),
        tile,
    )
    launch(h, down_proj, topk_ids, topk_weights, out)
    return out


@lru_cache(maxsize=LAUNCHES_KEPT)
def _gate_up_launch(
    device: torch.device,
    dtypes: tuple[torch.dtype, ...],
    ids_shape: torch.Size,
    w_shape: torch.Size,
    strides: tuple[int, ...],
    tile: GemvTile,
) -> Launch:
    num_tokens, top_k = ids_shape
    num_experts, gate_up_rows, hidden_size = w_shape
    intermediate_size = gate_up_rows // 2
    programs = num_tokens * top_k * cdiv(intermediate_size, tile.block_n)
    constants = _constants(hidden_size, intermediate_size, num_experts, top_k, tile)
    return Launch(gemv_gate_up_kernel, programs, strides, constants, num_warps=tile.num_warps)


@lru_cache(maxsize=LAUNCHES_KEPT)
def _down_launch(
    device: torch.device,
    dtypes: tuple[torch.dtype, ...],
    ids_shape: torch.Size,
    w_shape: torch.Size,
    strides: tuple[int, ...],
    tile: GemvTile,
) -> Launch:
    num_tokens, top_k = ids_shape
    num_experts, hidden_size, intermediate_size = w_shape
    programs = num_tokens * cdiv(hidden_size, tile.block_n)
    constants = _constants(hidden_size, intermediate_size, num_experts, top_k, tile)
    constants["UNROLL"] = min(top_k, _MAX_UNROLL)
    return Launch(gemv_down_kernel, programs, strides, constants, num_warps=tile.num_warps)


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
