"""The public functions. To compilers they are single operators, otherwise what `eager` does."""

from __future__ import annotations

import torch

from . import eager
from .integrations import torch_ops


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
    runs from 0 to K-1, and the same arguments give the same bits. A token's bits do not depend on
    its position in the batch, but how sums are split may depend on how many tokens go where.

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
        batch_invariant: sum in the same order for every T and all routing, so that a token's bits
            do not depend on the other tokens either. Slower for small batches and, but on sm_90,
            for large ones.

    Returns:
        (T, H) in hidden_states' dtype, contiguous.

    Raises:
        TypeError: an argument is no tensor, or its dtype is not allowed.
        ValueError: a shape or device does not fit, or a gradient is required.
    """
    function = torch_ops.fused_experts if torch.compiler.is_compiling() else eager.fused_experts
    return function(
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
    function = torch_ops.route if torch.compiler.is_compiling() else eager.route
    return function(
        router_logits,
        top_k,
        scoring=scoring,
        renormalize=renormalize,
        correction_bias=correction_bias,
        num_groups=num_groups,
        topk_groups=topk_groups,
        scaling_factor=scaling_factor,
    )


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
    function = torch_ops.fused_moe if torch.compiler.is_compiling() else eager.fused_moe
    return function(
        hidden_states,
        router_weight,
        gate_up_proj,
        down_proj,
        top_k,
        scoring=scoring,
        renormalize=renormalize,
        correction_bias=correction_bias,
        num_groups=num_groups,
        topk_groups=topk_groups,
        scaling_factor=scaling_factor,
        allow_tf32=allow_tf32,
        batch_invariant=batch_invariant,
    )
