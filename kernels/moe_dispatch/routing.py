"""Router: which K experts each token goes to, and with what weights, from the logits.

All arithmetic is float32, whatever the logits' dtype. One program handles whole rows, and a row's
result depends on that row alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from .launch import Launch
from .numerics import to_float32
from .routing_options import RoutingOptions
from .sizes import cdiv, next_power_of_2
from .target import INTERPRETED, device_function
from .tensor_spec import TensorSpec

_BLOCK_T = 16 if INTERPRETED else 4

_LOWEST = tl.constexpr(-(1 << 31))
"""Rank of a column that must not be chosen; every candidate ranks higher."""


@device_function
def rank_of(value):
    """int32 that orders float32 values as `<` does; NaN below -Inf, -0 equal to +0, > _LOWEST."""
    bits = tl.where(value == 0, 0.0, value).to(tl.int32, bitcast=True)
    # The bits of positive floats are ordered as integers; those of negative ones in reverse.
    rank = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return tl.where(value == value, rank, _LOWEST + 1)


@device_function
def sigmoid(logits, shift):
    """`sigmoid(logits) * exp(-shift)` for shift <= 0, which must be 0 where a logit is >= 0."""
    scaled = tl.exp(tl.minimum(logits, 0.0) - shift)
    return tl.div_rn(scaled, 1.0 + tl.exp(-tl.abs(logits)))


@device_function
def divide_or_zero(values, total):
    """`values / total[:, None]`; 0 where the total is 0, that is, where every value is 0."""
    total = tl.where(total == 0, 1.0, total)
    return tl.div_rn(values, tl.broadcast_to(total[:, None], values.shape))


@device_function
def finite_max(values):
    """Largest value of each row; 0 for a row that holds nothing but -Inf."""
    largest = tl.max(values, axis=1)
    return tl.where(largest == float("-inf"), 0.0, largest)


@device_function
def group_limited(
    ranks,
    choice_scores,
    expert_exists,
    BLOCK_T: tl.constexpr,
    NUM_GROUPS: tl.constexpr,
    TOPK_GROUPS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    GROUPS: tl.constexpr,
    MEMBERS: tl.constexpr,
):
    """`ranks` with every column outside its row's TOPK_GROUPS best groups set to _LOWEST.

    A group's score is the sum of its two best experts' scores (of its only expert's). Of equal
    groups the lower one is kept.
    """
    usable = expert_exists & (choice_scores == choice_scores)
    scores = tl.where(usable, choice_scores, float("-inf"))
    scores = tl.reshape(scores, (BLOCK_T, GROUPS, MEMBERS))
    group_score = tl.max(scores, axis=2)
    if GROUP_SIZE > 1:
        best = tl.argmax(scores, axis=2)
        others = tl.arange(0, MEMBERS)[None, None, :] != best[:, :, None]
        group_score += tl.max(tl.where(others, scores, float("-inf")), axis=2)
    group = tl.arange(0, GROUPS)[None, :]
    group_ranks = tl.where(group < NUM_GROUPS, rank_of(group_score), _LOWEST)
    kept = tl.zeros((BLOCK_T, GROUPS), dtype=tl.int32)
    for _ in range(TOPK_GROUPS):
        chosen = group == tl.argmax(group_ranks, axis=1)[:, None]
        kept = tl.where(chosen, 1, kept)
        group_ranks = tl.where(chosen, _LOWEST, group_ranks)
    kept = tl.broadcast_to(kept[:, :, None], (BLOCK_T, GROUPS, MEMBERS))
    kept = tl.reshape(kept, (BLOCK_T, GROUPS * MEMBERS))
    return tl.where(kept == 1, ranks, _LOWEST)


@triton.jit(do_not_specialize=["num_tokens", "scaling_factor"])
def routing_kernel(
    logits_ptr,
    bias_ptr,
    ids_ptr,
    weights_ptr,
    num_tokens,
    scaling_factor,
    stride_lt,
    stride_le,
    stride_b,
    NUM_EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    SCORING: tl.constexpr,
    RENORMALIZE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    NUM_GROUPS: tl.constexpr,
    TOPK_GROUPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUPS: tl.constexpr,
    MEMBERS: tl.constexpr,
):
    """ids and weights (T, K), contiguous, from logits (T, E) and bias (E,) of any strides.

    Columns are laid out as GROUPS x MEMBERS, powers of two no smaller than the groups and the
    experts in each; their order is that of the experts.
    """
    GROUP_SIZE: tl.constexpr = NUM_EXPERTS // NUM_GROUPS
    LIMITED: tl.constexpr = TOPK_GROUPS < NUM_GROUPS
    token = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    is_token = token[:, None] < num_tokens
    column = tl.arange(0, GROUPS * MEMBERS)
    expert = (column // MEMBERS) * GROUP_SIZE + column % MEMBERS
    exists = (column // MEMBERS < NUM_GROUPS) & (column % MEMBERS < GROUP_SIZE)
    is_expert = exists[None, :]
    row_ptrs = logits_ptr + token.to(tl.int64)[:, None] * stride_lt
    logits = tl.load(
        row_ptrs + expert.to(tl.int64)[None, :] * stride_le,
        mask=is_token & is_expert,
        other=float("-inf"),
    )
    logits = to_float32(logits)
    has_nan = tl.max((logits != logits).to(tl.int32), axis=1) == 1

    # The experts are chosen by their logits where these order them as the scores do: a score may
    # round two different logits to one value, or to 0.
    choice = logits
    if SCORING == "softmax":
        largest = finite_max(tl.where(logits == logits, logits, float("-inf")))
        exponentials = tl.exp(logits - largest[:, None])
        exponential_sum = tl.sum(exponentials, axis=1)
    if HAS_BIAS or LIMITED:
        if SCORING == "softmax":
            choice = divide_or_zero(exponentials, exponential_sum)
        else:
            choice = sigmoid(logits, 0.0)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + expert.to(tl.int64) * stride_b, mask=exists, other=0.0)
        choice += to_float32(bias)[None, :]
    ranks = tl.where(is_expert, rank_of(choice if HAS_BIAS else logits), _LOWEST)
    if LIMITED:
        ranks = group_limited(
            ranks,
            choice,
            is_expert,
            BLOCK_T,
            NUM_GROUPS,
            TOPK_GROUPS,
            GROUP_SIZE,
            GROUPS,
            MEMBERS,
        )

    k = tl.arange(0, BLOCK_K)[None, :]
    is_slot = is_token & (k < TOP_K)
    chosen = tl.zeros((BLOCK_T, BLOCK_K), dtype=tl.int32)
    for step in range(TOP_K):
        best = tl.argmax(ranks, axis=1)[:, None]
        chosen = tl.where(k == step, best, chosen)
        ranks = tl.where(column[None, :] == best, _LOWEST, ranks)
    chosen = (chosen // MEMBERS) * GROUP_SIZE + chosen % MEMBERS

    chosen_logits = tl.load(
        row_ptrs + chosen.to(tl.int64) * stride_le, mask=is_slot, other=float("-inf")
    )
    chosen_logits = to_float32(chosen_logits)
    if SCORING == "softmax":
        if RENORMALIZE:
            # Relative to the largest chosen logit, so that the sum cannot underflow.
            largest = finite_max(chosen_logits)
            weights = tl.exp(chosen_logits - largest[:, None])
            weights = divide_or_zero(weights, tl.sum(weights, axis=1))
        else:
            weights = tl.exp(chosen_logits - largest[:, None])
            weights = divide_or_zero(weights, exponential_sum)
    else:
        if RENORMALIZE:
            # Scores of very negative logits are scaled up by a common factor before they underflow.
            largest = finite_max(chosen_logits)
            shift = tl.where(largest < -32.0, largest, 0.0)
            weights = sigmoid(chosen_logits, shift[:, None])
            weights = tl.where(is_slot, weights, 0.0)
            weights = divide_or_zero(weights, tl.sum(weights, axis=1))
        else:
            weights = sigmoid(chosen_logits, 0.0)
    weights = tl.where(has_nan[:, None], float("nan"), weights * scaling_factor)

    out = token.to(tl.int64)[:, None] * TOP_K + k
    tl.store(ids_ptr + out, chosen, mask=is_slot)
    tl.store(weights_ptr + out, weights, mask=is_slot)


def plan_routing(
    logits: TensorSpec, bias: TensorSpec | None, options: RoutingOptions
) -> Callable[[torch.Tensor, torch.Tensor | None], tuple[torch.Tensor, torch.Tensor]]:
    """Plan of `api.route`: topk_ids and topk_weights (T, K) from logits (T, E) and bias (E,)."""
    num_tokens, num_experts = logits.shape
    top_k = options.top_k
    launch = Launch(
        routing_kernel,
        cdiv(num_tokens, _BLOCK_T),
        (
            num_tokens,
            float(options.scaling_factor),
            *logits.strides,
            0 if bias is None else bias.strides[0],
        ),
        {
            "NUM_EXPERTS": num_experts,
            "TOP_K": top_k,
            "SCORING": options.scoring,
            "RENORMALIZE": options.renormalize,
            "HAS_BIAS": bias is not None,
            "NUM_GROUPS": options.num_groups,
            "TOPK_GROUPS": options.groups_taking_part,
            "BLOCK_T": _BLOCK_T,
            "BLOCK_K": next_power_of_2(top_k),
            "GROUPS": next_power_of_2(options.num_groups),
            "MEMBERS": next_power_of_2(num_experts // options.num_groups),
        },
        num_warps=4 if num_experts <= 1024 else 8,
    )

    def choose_experts(
        logits: torch.Tensor, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ids = logits.new_empty(num_tokens, top_k, dtype=torch.int32)
        weights = logits.new_empty(num_tokens, top_k, dtype=torch.float32)
        if num_tokens:
            launch(logits, logits if bias is None else bias, ids, weights)
        return ids, weights

    return choose_experts
