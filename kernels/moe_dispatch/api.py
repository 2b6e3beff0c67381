"""The public functions: check the arguments, choose the tiles, launch the kernels."""

from __future__ import annotations

import torch

from .combine import combine
from .down import down
from .gate_up import gate_up
from .routing import choose_experts
from .schedule import build_schedule
from .target import architecture, on_device_of, supports_tf32
from .tile_config import select_tiles
from .validation import check_experts_arguments, check_logits, check_routing_options


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
    check_experts_arguments(hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights)
    if topk_ids.numel() == 0:
        return hidden_states.new_empty(hidden_states.shape)
    num_experts = gate_up_proj.shape[0]
    with on_device_of(hidden_states):
        arch = architecture(hidden_states.device)
        tiles = select_tiles(
            arch=arch,
            element_size=hidden_states.element_size(),
            num_slots=topk_ids.numel(),
            num_experts=num_experts,
            hidden_size=hidden_states.shape[1],
            intermediate_size=down_proj.shape[2],
            batch_invariant=batch_invariant,
        )
        allow_tf32 = allow_tf32 and supports_tf32(arch)
        schedule = build_schedule(topk_ids, num_experts, tiles.block_m)
        h = gate_up(
            hidden_states,
            gate_up_proj,
            schedule,
            top_k=topk_ids.shape[1],
            tiles=tiles,
            allow_tf32=allow_tf32,
        )
        y = down(h, down_proj, schedule, tiles=tiles, allow_tf32=allow_tf32)
        return combine(y, topk_ids, topk_weights, num_experts=num_experts)


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
    check_logits(router_logits)
    num_tokens, num_experts = router_logits.shape
    topk_groups = check_routing_options(
        num_experts=num_experts,
        device=router_logits.device,
        top_k=top_k,
        scoring=scoring,
        renormalize=renormalize,
        correction_bias=correction_bias,
        num_groups=num_groups,
        topk_groups=topk_groups,
        scaling_factor=scaling_factor,
    )
    if num_tokens == 0:
        return (
            torch.empty((0, top_k), dtype=torch.int32, device=router_logits.device),
            torch.empty((0, top_k), dtype=torch.float32, device=router_logits.device),
        )
    with on_device_of(router_logits):
        return choose_experts(
            router_logits,
            top_k,
            scoring=scoring,
            renormalize=renormalize,
            correction_bias=correction_bias,
            num_groups=num_groups,
            topk_groups=topk_groups,
            scaling_factor=scaling_factor,
        )
