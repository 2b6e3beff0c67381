"""Experts in plain Triton, a slot and a program at a time: right, and with bounds forgotten."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from moeproof import Capabilities


@triton.jit
def gate_up_kernel(
    x_ptr,
    w_ptr,
    ids_ptr,
    h_ptr,
    K,
    H,
    I,  # noqa: E741
    BH: tl.constexpr,
    BI: tl.constexpr,
    BOUNDED: tl.constexpr,
):
    """h (T * K, I) = SiLU(x @ gate^T) * (x @ up^T), one slot a program."""
    slot = tl.program_id(0)
    expert = tl.load(ids_ptr + slot).to(tl.int64)
    columns = tl.arange(0, BI)
    inside = columns < I if BOUNDED else columns < BI
    gate = tl.zeros((BI,), tl.float32)
    up = tl.zeros((BI,), tl.float32)
    for first in range(0, H, BH):
        k = first + tl.arange(0, BH)
        x = tl.load(x_ptr + slot // K * H + k, mask=k < H, other=0.0).to(tl.float32)
        both = inside[:, None] & (k < H)[None, :]
        rows = w_ptr + expert * 2 * I * H + columns[:, None] * H + k[None, :]
        gate += tl.sum(tl.load(rows, mask=both, other=0.0).to(tl.float32) * x[None, :], axis=1)
        up += tl.sum(
            tl.load(rows + I * H, mask=both, other=0.0).to(tl.float32) * x[None, :], axis=1
        )
    h = gate / (1 + tl.exp(-gate)) * up
    tl.store(h_ptr + slot * I + columns, h.to(h_ptr.dtype.element_ty), mask=inside)


@triton.jit
def down_kernel(
    h_ptr,
    w_ptr,
    ids_ptr,
    weights_ptr,
    out_ptr,
    H,
    I,  # noqa: E741
    K: tl.constexpr,
    BI: tl.constexpr,
    BH: tl.constexpr,
):
    """out (T, H): each token's slots in order, one token a program."""
    token = tl.program_id(0)
    columns = tl.arange(0, BH)
    k = tl.arange(0, BI)
    both = (columns < H)[:, None] & (k < I)[None, :]
    total = tl.zeros((BH,), tl.float32)
    for number in tl.static_range(K):
        slot = token * K + number
        expert = tl.load(ids_ptr + slot).to(tl.int64)
        h = tl.load(h_ptr + slot * I + k, mask=k < I, other=0.0).to(tl.float32)
        rows = w_ptr + expert * H * I + columns[:, None] * I + k[None, :]
        w = tl.load(rows, mask=both, other=0.0).to(tl.float32)
        total += tl.load(weights_ptr + slot) * tl.sum(w * h[None, :], axis=1)
    out = out_ptr + token * H + columns
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=columns < H)


class TritonExperts:
    """bf16 and fp32, contiguous tensors."""

    capabilities = Capabilities(dtypes=frozenset({"bf16", "fp32"}), deterministic=True)

    def __init__(self, *, bounded: bool = True) -> None:
        self._bounded = bounded

    def fused_experts(
        self,
        hidden_states: torch.Tensor,
        gate_up_proj: torch.Tensor,
        down_proj: torch.Tensor,
        topk_ids: torch.Tensor,
        topk_weights: torch.Tensor,
    ) -> torch.Tensor:
        (T, H), I, K = hidden_states.shape, down_proj.shape[2], topk_ids.shape[1]  # noqa: E741
        h = hidden_states.new_empty((T * K, I))
        out = torch.empty_like(hidden_states)
        width, depth = triton.next_power_of_2(I), triton.next_power_of_2(H)
        gate_up_kernel[(T * K,)](
            *(hidden_states, gate_up_proj, topk_ids, h, K, H, I),
            BH=32,
            BI=width,
            BOUNDED=self._bounded,
        )
        down_kernel[(T,)](
            *(h, down_proj, topk_ids, topk_weights, out, H, I), K=K, BI=width, BH=depth
        )
        return out


right = TritonExperts()
unbounded = TritonExperts(bounded=False)
