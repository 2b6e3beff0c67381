"""The implementations that are timed, each with ``fused_experts``' signature."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

import moe_dispatch

Experts = Callable[..., torch.Tensor]


def loop_over_experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
) -> torch.Tensor:
    """Plain torch, one expert after the other (waits for the GPU at each: no graph capture)."""
    output = torch.zeros_like(hidden_states, dtype=torch.float32)
    for expert in topk_ids.unique().tolist():
        token, slot = torch.where(topk_ids == expert)
        gate, up = (hidden_states[token] @ gate_up_proj[expert].T).chunk(2, dim=1)
        y = (torch.nn.functional.silu(gate) * up) @ down_proj[expert].T
        output.index_add_(0, token, y.float() * topk_weights[token, slot, None])
    return output.to(hidden_states.dtype)


def grouped_mm(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
) -> torch.Tensor:
    """torch._grouped_mm over rows sorted by expert, as transformers' grouped_mm path does."""
    num_tokens, top_k = topk_ids.shape
    flat = topk_ids.reshape(-1)
    order = torch.argsort(flat)
    counts = torch.zeros(gate_up_proj.shape[0], dtype=torch.int32, device=flat.device)
    counts.scatter_add_(0, flat.long(), torch.ones_like(flat))
    offsets = counts.cumsum(0).to(torch.int32)
    rows = hidden_states[order // top_k]
    gate, up = torch._grouped_mm(rows, gate_up_proj.transpose(1, 2), offs=offsets).chunk(2, dim=1)
    h = torch.nn.functional.silu(gate) * up
    y = torch._grouped_mm(h, down_proj.transpose(1, 2), offs=offsets)
    y = y * topk_weights.reshape(-1, 1)[order]
    slots = torch.empty_like(y)
    slots[order] = y
    return slots.view(num_tokens, top_k, -1).sum(dim=1).to(hidden_states.dtype)


CONTENDERS: dict[str, Experts] = {
    "moe_dispatch": moe_dispatch.fused_experts,
    "batch_invariant": partial(moe_dispatch.fused_experts, batch_invariant=True),
    "grouped_mm": grouped_mm,
    "loop": loop_over_experts,
}
CANNOT_BE_CAPTURED = frozenset({"loop", "transformers_eager"})


def find_contender(name: str) -> Experts:
    """One of `CONTENDERS`, or the suite's adapter of that name where moeproof is installed."""
    if name in CONTENDERS:
        return CONTENDERS[name]
    from moeproof.implementation import load_implementation

    return load_implementation(name).fused_experts
