"""The forward passes as they run outside a compiler: check, choose the tiles, launch the kernels.

`api` says what the functions compute.
"""

from __future__ import annotations

import torch

from .combine import combine
from .down import down
from .gate_up import gate_up
from .gemv import gemv_experts
from .router_logits import router_logits
from .routing import choose_experts
from .routing_options import routing_options
from .schedule import build_schedule
from .target import architecture, on_device_of, supports_tf32
from .tile_config import select_gemv, select_tiles
from .validation import (
    check_experts_arguments,
    check_flag,
    check_logits,
    check_moe_arguments,
    check_routing_options,
)


def fused_experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    *,
    allow_tf32: bool = False,
    batch_invariant: bool = False,
) -> torch.Tensor:
    """(T, H); see `api.fused_experts`."""
    check_experts_arguments(hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights)
    check_flag("allow_tf32", allow_tf32)
    check_flag("batch_invariant", batch_invariant)
    return _experts(
        hidden_states,
        gate_up_proj,
        down_proj,
        topk_ids,
        topk_weights,
        allow_tf32=allow_tf32,
        batch_invariant=batch_invariant,
    )


def route(
    router_logits: torch.Tensor,
    top_k: int,
    *,
    scoring: str = "softmax",
    renormalize: bool = True,
    correction_bias: torch.Tensor | None = None,
    num_groups: int = 1,
    topk_groups: int | None = None,
    scaling_factor: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """topk_ids (T, K) and topk_weights (T, K); see `api.route`."""
    check_logits(router_logits)
    options = routing_options(
        top_k,
        scoring=scoring,
        renormalize=renormalize,
        correction_bias=correction_bias,
        num_groups=num_groups,
        topk_groups=topk_groups,
        scaling_factor=scaling_factor,
    )
    check_routing_options(options, num_experts=router_logits.shape[1], device=router_logits.device)
    with on_device_of(router_logits):
        return choose_experts(router_logits, options)


def fused_moe(
    hidden_states: torch.Tensor,
    router_weight: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    top_k: int,
    *,
    scoring: str = "softmax",
    renormalize: bool = True,
    correction_bias: torch.Tensor | None = None,
    num_groups: int = 1,
    topk_groups: int | None = None,
    scaling_factor: float = 1.0,
    allow_tf32: bool = False,
    batch_invariant: bool = False,
) -> torch.Tensor:
    """(T, H); see `api.fused_moe`."""
    options = routing_options(
        top_k,
        scoring=scoring,
        renormalize=renormalize,
        correction_bias=correction_bias,
        num_groups=num_groups,
        topk_groups=topk_groups,
        scaling_factor=scaling_factor,
    )
    check_moe_arguments(hidden_states, router_weight, gate_up_proj, down_proj, *options)
    check_flag("allow_tf32", allow_tf32)
    check_flag("batch_invariant", batch_invariant)
    with on_device_of(hidden_states):
        logits = router_logits(hidden_states, router_weight, batch_invariant=batch_invariant)
        topk_ids, topk_weights = choose_experts(logits, options)
    return _experts(
        hidden_states,
        gate_up_proj,
        down_proj,
        topk_ids,
        topk_weights,
        allow_tf32=allow_tf32,
        batch_invariant=batch_invariant,
    )


def _experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    *,
    allow_tf32: bool,
    batch_invariant: bool,
) -> torch.Tensor:
    """`fused_experts` without its checks."""
    num_tokens, top_k = topk_ids.shape
    if num_tokens == 0:
        return hidden_states.new_empty(hidden_states.shape)
    num_experts, hidden_size, intermediate_size = down_proj.shape
    with on_device_of(hidden_states):
        arch = architecture(hidden_states.device)
        gemv = select_gemv(
            arch=arch,
            num_tokens=num_tokens,
            top_k=top_k,
            num_experts=num_experts,
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
            batch_invariant=batch_invariant,
        )
        if gemv is not None:
            return gemv_experts(
                hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights, config=gemv
            )
        tiles = select_tiles(
            arch=arch,
            element_size=hidden_states.element_size(),
            num_slots=num_tokens * top_k,
            num_experts=num_experts,
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
            batch_invariant=batch_invariant,
        )
        tf32 = allow_tf32 and supports_tf32(arch)
        schedule = build_schedule(topk_ids, num_experts, block_m=tiles.block_m, tail=tiles.tail)
        h = gate_up(
            hidden_states, gate_up_proj, schedule, top_k=top_k, tiles=tiles, allow_tf32=tf32
        )
        y = down(h, down_proj, schedule, tiles=tiles, allow_tf32=tf32)
        return combine(y, topk_ids, topk_weights, num_experts=num_experts)
