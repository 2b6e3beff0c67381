"""The forward passes as they run outside a compiler: check, choose the tiles, launch the kernels.

`api` says what the functions compute. All but the launches is planned once for arguments that are
alike: a plan is a function of the tensors, composed of those of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import torch

from .combine import plan_combine
from .down import plan_down
from .gate_up import plan_gate_up
from .gemv import plan_gemv_experts
from .gemv_config import select_gemv
from .joint_gate_up import plan_joint_gate_up
from .launch import takes_descriptor
from .persistent_down import plan_persistent_down
from .plan import planned
from .router_logits import plan_router_logits
from .routing import plan_routing
from .routing_options import RoutingOptions
from .schedule import max_tiles, plan_schedule
from .target import architecture, few_programs, multiprocessors, on_device_of, supports_tf32
from .tensor_spec import TensorSpec
from .tile_config import select_tiles
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
    tensors = (hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights)
    return _fused_experts(tensors, allow_tf32, batch_invariant)


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
    options = (top_k, scoring, renormalize, num_groups, topk_groups, scaling_factor)
    return _route((router_logits, correction_bias), *options)


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
    options = (top_k, scoring, renormalize, num_groups, topk_groups, scaling_factor)
    tensors = (hidden_states, router_weight, gate_up_proj, down_proj, correction_bias)
    return _fused_moe(tensors, allow_tf32, batch_invariant, *options)


@planned
def _fused_experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    allow_tf32: bool,
    batch_invariant: bool,
) -> Callable[..., torch.Tensor]:
    tensors = (hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights)
    check_experts_arguments(*tensors)
    check_flag("allow_tf32", allow_tf32)
    check_flag("batch_invariant", batch_invariant)
    return plan_experts(
        *map(TensorSpec.of, tensors),
        **_processor_of(hidden_states),
        allow_tf32=allow_tf32,
        batch_invariant=batch_invariant,
    )


@planned
def _route(
    router_logits: torch.Tensor, correction_bias: torch.Tensor | None, *options: Any
) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    routing = RoutingOptions(*options)
    check_logits(router_logits)
    check_routing_options(
        routing, correction_bias, num_experts=router_logits.shape[1], device=router_logits.device
    )
    return plan_routing(TensorSpec.of(router_logits), _spec_of_bias(correction_bias), routing)


@planned
def _fused_moe(
    hidden_states: torch.Tensor,
    router_weight: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    correction_bias: torch.Tensor | None,
    allow_tf32: bool,
    batch_invariant: bool,
    *options: Any,
) -> Callable[..., torch.Tensor]:
    routing = RoutingOptions(*options)
    check_moe_arguments(
        hidden_states, router_weight, gate_up_proj, down_proj, correction_bias, routing
    )
    check_flag("allow_tf32", allow_tf32)
    check_flag("batch_invariant", batch_invariant)
    num_tokens, num_experts, top_k = hidden_states.shape[0], router_weight.shape[0], routing.top_k
    if num_tokens == 0:
        return _without_tokens
    x = TensorSpec.of(hidden_states)
    router_logits = plan_router_logits(
        x, TensorSpec.of(router_weight), batch_invariant=batch_invariant
    )
    choose_experts = plan_routing(
        TensorSpec.of_matrix(num_tokens, num_experts, torch.float32),
        _spec_of_bias(correction_bias),
        routing,
    )
    experts = plan_experts(
        x,
        TensorSpec.of(gate_up_proj),
        TensorSpec.of(down_proj),
        TensorSpec.of_matrix(num_tokens, top_k, torch.int32),
        TensorSpec.of_matrix(num_tokens, top_k, torch.float32),
        **_processor_of(hidden_states),
        allow_tf32=allow_tf32,
        batch_invariant=batch_invariant,
    )

    def fused_moe(
        hidden_states: torch.Tensor,
        router_weight: torch.Tensor,
        gate_up_proj: torch.Tensor,
        down_proj: torch.Tensor,
        correction_bias: torch.Tensor | None,
    ) -> torch.Tensor:
        logits = router_logits(hidden_states, router_weight)
        topk_ids, topk_weights = choose_experts(logits, correction_bias)
        return experts(hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights)

    return fused_moe


def plan_experts(
    hidden_states: TensorSpec,
    gate_up_proj: TensorSpec,
    down_proj: TensorSpec,
    topk_ids: TensorSpec,
    topk_weights: TensorSpec,
    *,
    arch: str,
    multiprocessors: int,
    allow_tf32: bool,
    batch_invariant: bool,
) -> Callable[..., torch.Tensor]:
    """Plan of `fused_experts`, unchecked.

    arch: a result of `target.architecture`, whose tiles are taken. multiprocessors: that GPU's.
    """
    num_tokens, top_k = topk_ids.shape
    if num_tokens == 0:
        return _without_tokens
    num_slots = num_tokens * top_k
    num_experts, hidden_size, intermediate_size = down_proj.shape
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
        return plan_gemv_experts(
            hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights, config=gemv
        )
    dtype = hidden_states.dtype
    tiles = select_tiles(
        arch=arch,
        element_size=dtype.itemsize,
        num_slots=num_slots,
        num_experts=num_experts,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        batch_invariant=batch_invariant,
    )
    most_tiles = max_tiles(num_slots=num_slots, num_experts=num_experts, block_m=tiles.block_m)
    few = few_programs(arch, multiprocessors)
    tf32 = allow_tf32 and supports_tf32(arch)
    h_spec = TensorSpec.of_matrix(num_slots, intermediate_size, dtype)
    persistent = tiles.persistent_down
    if not (takes_descriptor(h_spec) and takes_descriptor(down_proj)):
        persistent = None
    build_schedule = plan_schedule(
        topk_ids,
        num_experts,
        max_tiles=most_tiles,
        block_m=tiles.block_m,
        tail=tiles.tail,
        without_tails=persistent is not None,
    )
    if tiles.joint_gate_up is None or not takes_descriptor(gate_up_proj):
        gate_up = plan_gate_up(
            hidden_states,
            gate_up_proj,
            max_tiles=most_tiles,
            top_k=top_k,
            programs=few,
            tiles=tiles,
            allow_tf32=tf32,
        )
    else:
        gate_up = plan_joint_gate_up(
            hidden_states,
            gate_up_proj,
            max_tiles=most_tiles,
            top_k=top_k,
            heights=tiles.heights,
            block_m=tiles.block_m,
            tile=tiles.joint_gate_up,
            allow_tf32=tf32,
        )
    if persistent is None:
        down = plan_down(
            h_spec,
            down_proj,
            max_tiles=most_tiles,
            programs=few,
            tiles=tiles,
            allow_tf32=tf32,
        )
    else:
        down = plan_persistent_down(
            h_spec,
            down_proj,
            max_tiles=most_tiles,
            programs=multiprocessors,
            block_m=tiles.block_m,
            tile=persistent,
            allow_tf32=tf32,
        )
    y_spec = TensorSpec.of_matrix(num_slots, hidden_size, dtype)
    combine = plan_combine(y_spec, topk_ids, topk_weights, num_experts=num_experts)

    def experts(
        hidden_states: torch.Tensor,
        gate_up_proj: torch.Tensor,
        down_proj: torch.Tensor,
        topk_ids: torch.Tensor,
        topk_weights: torch.Tensor,
    ) -> torch.Tensor:
        schedule = build_schedule(topk_ids)
        h = gate_up(hidden_states, gate_up_proj, schedule)
        y = down(h, down_proj, schedule)
        return combine(y, topk_ids, topk_weights)

    return experts


def _without_tokens(hidden_states: torch.Tensor, *_: torch.Tensor | None) -> torch.Tensor:
    return hidden_states.new_empty(hidden_states.shape)


def _spec_of_bias(bias: torch.Tensor | None) -> TensorSpec | None:
    return None if bias is None else TensorSpec.of(bias)


class _Processor(TypedDict):
    arch: str
    multiprocessors: int


def _processor_of(tensor: torch.Tensor) -> _Processor:
    with on_device_of(tensor):
        return {
            "arch": architecture(tensor.device),
            "multiprocessors": multiprocessors(tensor.device),
        }
