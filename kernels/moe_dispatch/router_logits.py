"""The router's own matrix product. Its logits stay in float32: rounded ones pick other experts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from .launch import Launch
from .numerics import dot_accumulate, to_float32
from .sizes import cdiv
from .target import INTERPRETED
from .tensor_spec import TensorSpec

_SMALL_BLOCK = (16, 16, 64 if INTERPRETED else 256)
"""(BLOCK_T, BLOCK_E, bytes of a row in BLOCK_K elements): many programs even for one token."""

_LARGE_BLOCK = (32, 64, 128)
"""For many tokens: each row and each expert is read fewer times."""

_LARGE_FROM = 512
"""Tokens from which on the large blocks keep a GPU busy."""


@triton.jit(do_not_specialize=["num_tokens"])
def router_logits_kernel(
    x_ptr,
    w_ptr,
    logits_ptr,
    num_tokens,
    hidden_size,
    stride_xt,
    stride_xh,
    stride_we,
    stride_wh,
    NUM_EXPERTS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One (BLOCK_T, BLOCK_E) tile of logits = x @ w^T in float32; logits (T, E): contiguous."""
    blocks: tl.constexpr = (NUM_EXPERTS + BLOCK_E - 1) // BLOCK_E
    program = tl.program_id(0)
    token = (program // blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    expert = (program % blocks) * BLOCK_E + tl.arange(0, BLOCK_E)
    k = tl.arange(0, BLOCK_K)
    x_rows = tl.minimum(token, num_tokens - 1).to(tl.int64)
    w_rows = tl.minimum(expert, NUM_EXPERTS - 1).to(tl.int64)
    x_ptrs = x_ptr + x_rows[:, None] * stride_xt + k.to(tl.int64)[None, :] * stride_xh
    w_ptrs = w_ptr + w_rows[None, :] * stride_we + k.to(tl.int64)[:, None] * stride_wh
    step = tl.full((), BLOCK_K, tl.int64)
    logits = tl.zeros((BLOCK_T, BLOCK_E), dtype=tl.float32)
    for first_k in range(0, hidden_size, BLOCK_K):
        inside = first_k + k < hidden_size
        x = tl.load(x_ptrs, mask=inside[None, :], other=0.0)
        w = tl.load(w_ptrs, mask=inside[:, None], other=0.0)
        if x.dtype != w.dtype:
            x = to_float32(x)
            w = to_float32(w)
        logits = dot_accumulate(x, w, logits, False)
        x_ptrs += step * stride_xh
        w_ptrs += step * stride_wh
    out = token.to(tl.int64)[:, None] * NUM_EXPERTS + expert[None, :]
    tl.store(
        logits_ptr + out,
        logits,
        mask=(token[:, None] < num_tokens) & (expert[None, :] < NUM_EXPERTS),
    )


def plan_router_logits(
    hidden_states: TensorSpec, router_weight: TensorSpec, *, batch_invariant: bool
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Plan of (T, E) float32 from hidden_states (T, H) and router_weight (E, H), T > 0.

    Operands of different dtypes are multiplied in float32.
    """
    num_tokens, hidden_size = hidden_states.shape
    num_experts = router_weight.shape[0]
    large = num_tokens >= _LARGE_FROM and not batch_invariant
    block_t, block_e, block_bytes = _LARGE_BLOCK if large else _SMALL_BLOCK
    element_size = max(hidden_states.dtype.itemsize, router_weight.dtype.itemsize)
    launch = Launch(
        router_logits_kernel,
        cdiv(num_tokens, block_t) * cdiv(num_experts, block_e),
        (num_tokens, hidden_size, *hidden_states.strides, *router_weight.strides),
        {
            "NUM_EXPERTS": num_experts,
            "BLOCK_T": block_t,
            "BLOCK_E": block_e,
            "BLOCK_K": block_bytes // element_size,
        },
    )

    def router_logits(hidden_states: torch.Tensor, router_weight: torch.Tensor) -> torch.Tensor:
        logits = hidden_states.new_empty(num_tokens, num_experts, dtype=torch.float32)
        launch(hidden_states, router_weight, logits)
        return logits

    return router_logits
