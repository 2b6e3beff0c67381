"""The public functions: check the arguments, choose the tiles, launch the kernels."""

from __future__ import annotations

import torch

from .combine import combine
from .down import down
from .gate_up import gate_up
from .gemv import gemv_experts
from .router_logits import router_logits
from .routing import choose_experts
from .routing_options import RoutingOptions
from .schedule import build_schedule
from .target import architecture, on_device_of, supports_tf32
from .tile_config import select_gemv, select_tiles
from .validation import (
    check_expert_weights,
    check_experts_arguments,
    check_flag,
    check_logits,
    check_router_weight,
    check_routing_options,
    check_slots,
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
    """Each token's chosen experts, and the weighted sum of their outputs.

        h[t, k] = SiLU(gate[e] @ x[t]) * (up[e] @ x[t])              e = topk_ids[t, k]
        out[t]  = sum over k of topk_weights[t, k] * (down[e] @ h[t, k])

    All sums are accumulated in float32. Rounded to the activations' dtype are h, each expert's
    output (before its weight is applied, in float32) and the result; nothing else. The sum over k
    runs from 0 to K-1, and the same arguments give the same bits. A token's bits depend neither on
    its position in the batch nor on the other tokens, as long as the batch size stays.

    The launches need no host synchronisation, so the call can be captured in a CUDA or HIP graph.
    Inputs may have any strides and are not written. There is no backward pass.

    Args:
        hidden_states: (T, H) bfloat16, float16 or float32. T may be 0.
        gate_up_proj: (E, 2I, H), same dtype; the gate's I rows first, then those of up.
        down_proj: (E, H, I), same dtype.
        topk_ids: (T, K) int32 or int64. A slot whose id lies outside [0, E) contributes nothing;
            an id that occurs twice in a row contributes twice.
        topk_weights: (T, K) float32, bfloat16 or float16.
        allow_tf32: multiply float32 operands as tf32 where the GPU can.
        batch_invariant: use the same tiles for every T, so that a token's bits do not depend on
            the size of the batch either. Slower for small and for large batches.

    Returns:
        (T, H) in hidden_states' dtype, contiguous.

    Raises:
        TypeError: an argument is no tensor, or its dtype is not allowed.
        ValueError: a shape or device does not fit, or a gradient is required.
    """
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
    """The top_k experts of each token and their weights, computed in float32.

    An expert's score is the softmax over all experts, or the sigmoid, of its logit. The experts
    with the largest score plus correction_bias are chosen; ties go to the lower id. With groups,
    only the topk_groups groups of consecutive experts with the largest sum of their two best such
    values take part (DeepSeek-V3, arXiv:2412.19437, section 2.1.2). The weight is the score
    without the bias, divided by the sum over the chosen if `renormalize`, times scaling_factor.

    Every row gets distinct ids in [0, E), best first. A row with a NaN chooses its other experts
    first and has NaN weights, as a softmax row with +Inf has. -Inf means a score of 0; a row whose
    chosen logits are all -Inf has weights of 0. Where scores underflow, renormalised weights are
    still the quotients of the true scores.

    Args:
        router_logits: (T, E) bfloat16, float16 or float32, any strides. T may be 0.
        top_k: K, from 1 to the number of experts in topk_groups groups.
        scoring: "softmax" or "sigmoid".
        renormalize: divide the weights by their sum.
        correction_bias: (E,), added for the choice only.
        num_groups: a divisor of E.
        topk_groups: groups that take part, all by default.
        scaling_factor: multiplies the weights.

    Returns:
        topk_ids (T, K) int32 and topk_weights (T, K) float32.

    Raises:
        TypeError: an argument's type or dtype is not allowed.
        ValueError: a shape, device or option does not fit, or a gradient is required.
    """
    check_logits(router_logits)
    options = RoutingOptions(
        top_k,
        scoring,
        renormalize,
        correction_bias,
        num_groups,
        num_groups if topk_groups is None else topk_groups,
        scaling_factor,
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
    """Router and experts: `fused_experts` with the ids and weights that `route` finds.

    The router's logits, hidden_states @ router_weight^T, are accumulated and kept in float32 and
    never use tf32.

    Args:
        hidden_states: (T, H) bfloat16, float16 or float32. T may be 0.
        router_weight: (E, H), any of these dtypes.
        gate_up_proj, down_proj, allow_tf32, batch_invariant: as for `fused_experts`.
        top_k, scoring, renormalize, correction_bias, num_groups, topk_groups, scaling_factor: as
            for `route`.

    Returns:
        (T, H) in hidden_states' dtype, contiguous.

    Raises:
        TypeError, ValueError: as `fused_experts` and `route`.
    """
    check_expert_weights(hidden_states, gate_up_proj, down_proj)
    num_experts = gate_up_proj.shape[0]
    check_router_weight(hidden_states, router_weight, num_experts)
    options = RoutingOptions(
        top_k,
        scoring,
        renormalize,
        correction_bias,
        num_groups,
        num_groups if topk_groups is None else topk_groups,
        scaling_factor,
    )
    check_routing_options(options, num_experts=num_experts, device=hidden_states.device)
    check_slots("hidden_states", hidden_states.shape[0] * top_k)
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
        schedule = build_schedule(topk_ids, num_experts, tiles.block_m)
        h = gate_up(
            hidden_states, gate_up_proj, schedule, top_k=top_k, tiles=tiles, allow_tf32=tf32
        )
        y = down(h, down_proj, schedule, tiles=tiles, allow_tf32=tf32)
        return combine(y, topk_ids, topk_weights, num_experts=num_experts)
