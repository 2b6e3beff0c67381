"""Faults of the router."""

from __future__ import annotations

from dataclasses import replace

import torch

from moeproof.faults.fault import router_fault
from moeproof.variants import router_steps as right
from moeproof.variants.router_steps import RouterCall, Tensor


@router_fault(
    "weigh",
    "the weight is the score with the correction bias",
    bug_class="router",
    stands_for=("MetaX-MACA/vLLM-metax#270",),
)
def bias_in_weights(call: RouterCall, scores: Tensor, ids: Tensor) -> Tensor:
    return right.weigh(call, right.rank(call, scores), ids)


@router_fault("rank", "the correction bias is ignored", bug_class="router")
def bias_ignored(call: RouterCall, scores: Tensor) -> Tensor:
    return right.rank(replace(call, correction_bias=None), scores)


@router_fault("score", "softmax where sigmoid is asked for", bug_class="router")
def scoring_ignored(call: RouterCall, logits: Tensor) -> Tensor:
    return right.score(replace(call, scoring="softmax"), logits)


@router_fault("score", "softmax over the tokens instead of the experts", bug_class="router")
def softmax_over_tokens(call: RouterCall, logits: Tensor) -> Tensor:
    return logits.softmax(dim=0) if call.scoring == "softmax" else right.score(call, logits)


@router_fault("score", "softmax without subtracting the maximum overflows", bug_class="router")
def softmax_overflows(call: RouterCall, logits: Tensor) -> Tensor:
    if call.scoring != "softmax":
        return right.score(call, logits)
    exponentials = logits.exp()
    return exponentials / exponentials.sum(dim=1, keepdim=True)


@router_fault("score", "exp(x) / (1 + exp(x)) overflows for large logits", bug_class="router")
def router_sigmoid_overflows(call: RouterCall, logits: Tensor) -> Tensor:
    if call.scoring != "sigmoid":
        return right.score(call, logits)
    exponentials = logits.exp()
    return exponentials / (1.0 + exponentials)


@router_fault(
    "rank",
    "the last bits of a score are replaced by the expert's number, so that no two are equal",
    bug_class="router",
    stands_for=("vllm-project/vllm#54403",),
)
def expert_number_in_score(call: RouterCall, scores: Tensor) -> Tensor:
    ranking = right.rank(call, scores)
    bits = ranking.contiguous().view(torch.int32)
    number = call.num_experts - 1 - torch.arange(call.num_experts, device=scores.device)
    mask = (1 << (call.num_experts - 1).bit_length()) - 1
    packed = (bits & ~mask) | number.int()
    return torch.where(ranking.isfinite() & (ranking > 0), packed.view(torch.float32), ranking)


@router_fault(
    "score",
    "a masked logit of -inf is read as a large finite number times zero",
    bug_class="router, special values",
)
def negative_infinity_becomes_nan(call: RouterCall, logits: Tensor) -> Tensor:
    scores = right.score(call, logits)
    return scores + logits.isneginf().any(dim=1, keepdim=True) * (logits.amin(1, True) * 0.0)


@router_fault("score", "scores are rounded to bf16", bug_class="precision")
def scores_in_bf16(call: RouterCall, logits: Tensor) -> Tensor:
    return right.score(call, logits).bfloat16().float()


@router_fault("read_logits", "logits are rounded to bf16", bug_class="precision")
def logits_in_bf16(call: RouterCall) -> Tensor:
    return call.router_logits.bfloat16().float()


@router_fault(
    "score_groups",
    "scores of groups are rounded to bf16 and pick other groups",
    bug_class="precision",
    stands_for=("flagos-ai/FlagGems#4245",),
)
def group_scores_in_bf16(call: RouterCall, grouped: Tensor) -> Tensor:
    return right.score_groups(call, grouped).bfloat16().float()


@router_fault(
    "score_groups", "a group's score is its best instead of the sum of its two best",
    bug_class="router",
)  # fmt: skip
def group_score_is_maximum(call: RouterCall, grouped: Tensor) -> Tensor:
    return grouped.amax(dim=2)


@router_fault("mask_groups", "all groups may be chosen from", bug_class="router")
def groups_ignored(call: RouterCall, grouped: Tensor, kept: Tensor) -> Tensor:
    return grouped


@router_fault(
    "mask_groups", "other groups' experts get score 0, above negative biased scores",
    bug_class="router",
)  # fmt: skip
def other_groups_score_zero(call: RouterCall, grouped: Tensor, kept: Tensor) -> Tensor:
    return grouped.masked_fill(~kept[:, :, None], 0.0)


@router_fault("score_groups", "the last group is never chosen", bug_class="router")
def last_group_lost(call: RouterCall, grouped: Tensor) -> Tensor:
    scores = right.score_groups(call, grouped).clone()
    scores[:, -1] = -torch.inf
    return scores


@router_fault(
    "select",
    "experts from 256 on are never chosen",
    bug_class="router",
    stands_for=("kekzl/imp#2056",),
)
def experts_past_256_never_chosen(call: RouterCall, ranking: Tensor) -> Tensor:
    return right.select(call, ranking[:, :256] if call.top_k <= 256 else ranking)


@router_fault("select", "experts past the last multiple of 32 are never chosen", bug_class="tile")
def tail_of_experts_never_chosen(call: RouterCall, ranking: Tensor) -> Tensor:
    whole = call.num_experts // 32 * 32
    return right.select(call, ranking[:, :whole] if whole >= call.top_k else ranking)


@router_fault(
    "select",
    "of equal scores the higher id is chosen",
    bug_class="router, ties",
    stands_for=("vllm-project/vllm#54403",),
)
def ties_to_higher_id(call: RouterCall, ranking: Tensor) -> Tensor:
    return call.num_experts - 1 - right.best(ranking.flip(1), call.top_k)


@router_fault(
    "store_ids",
    "a row with NaN gets the id E",
    bug_class="router, special values",
    stands_for=("vllm-project/vllm#39391", "sgl-project/sglang#30079"),
)
def nan_row_gets_id_out_of_range(call: RouterCall, ids: Tensor) -> Tensor:
    spoilt = call.router_logits.isnan().any(dim=1, keepdim=True)
    return torch.where(spoilt, call.num_experts, right.store_ids(call, ids))


@router_fault(
    "store_ids",
    "a row with NaN gets the ids 0, 0, ..",
    bug_class="router, special values",
    stands_for=("vllm-project/vllm#39391", "sgl-project/sglang#30079"),
)
def nan_row_gets_zeros(call: RouterCall, ids: Tensor) -> Tensor:
    spoilt = call.router_logits.isnan().any(dim=1, keepdim=True)
    return torch.where(spoilt, 0, right.store_ids(call, ids))


@router_fault(
    "select", "an expert that was chosen gets score 0 and may be chosen again", bug_class="router"
)
def chosen_again(call: RouterCall, ranking: Tensor) -> Tensor:
    left, ids = ranking.clone(), []
    for _ in range(call.top_k):
        ids.append(right.best(left, 1))
        left = left.scatter(1, ids[-1], 0.0)
    return torch.cat(ids, dim=1)


@router_fault("select", "the second best is taken for the best", bug_class="router")
def best_expert_passed_over(call: RouterCall, ranking: Tensor) -> Tensor:
    if call.top_k == call.num_experts or call.num_groups > 1:
        return right.select(call, ranking)
    return right.best(ranking, call.top_k + 1)[:, 1:]


@router_fault(
    "weigh",
    "weights come from the next row",
    bug_class="router",
    stands_for=("vllm-project/vllm#48895",),
)
def weights_from_next_row(call: RouterCall, scores: Tensor, ids: Tensor) -> Tensor:
    return right.weigh(call, scores.roll(-1, dims=0), ids)


@router_fault("weigh", "ids are in order of rank, weights in order of id", bug_class="router")
def router_weights_in_order_of_ids(call: RouterCall, scores: Tensor, ids: Tensor) -> Tensor:
    return right.weigh(call, scores, ids.sort(dim=1).values)


@router_fault(
    "weigh", "softmax over the chosen experts even where weights are not renormalised",
    bug_class="router",
)  # fmt: skip
def softmax_after_top_k(call: RouterCall, scores: Tensor, ids: Tensor) -> Tensor:
    if call.scoring != "softmax":
        return right.weigh(call, scores, ids)
    return right.read_logits(call).gather(1, ids).softmax(dim=1)


@router_fault(
    "normalise",
    "weights are normalised over the tokens",
    bug_class="router",
    stands_for=("databricks/megablocks#87",),
)
def normalised_over_tokens(call: RouterCall, weights: Tensor) -> Tensor:
    return weights / weights.sum(dim=0, keepdim=True) if call.renormalize else weights


@router_fault("normalise", "weights are divided by their sum + 1e-3", bug_class="router")
def normalised_with_epsilon(call: RouterCall, weights: Tensor) -> Tensor:
    return weights / (weights.sum(dim=1, keepdim=True) + 1e-3) if call.renormalize else weights


@router_fault(
    "normalise",
    "weights whose sum is zero become 0/0",
    bug_class="router, special values",
    stands_for=("flashinfer-ai/flashinfer#3803", "sgl-project/sglang#31017"),
)
def normalised_zero_by_zero(call: RouterCall, weights: Tensor) -> Tensor:
    return weights / weights.sum(dim=1, keepdim=True) if call.renormalize else weights


@router_fault("normalise", "weights are always normalised", bug_class="router")
def always_normalised(call: RouterCall, weights: Tensor) -> Tensor:
    return right.normalise(replace(call, renormalize=True), weights)


@router_fault("normalise", "weights are never normalised", bug_class="router")
def never_normalised(call: RouterCall, weights: Tensor) -> Tensor:
    return weights


@router_fault("scale", "the scaling factor is not applied", bug_class="weights")
def scaling_missing(call: RouterCall, weights: Tensor) -> Tensor:
    return weights


@router_fault(
    "scale",
    "the scaling factor is applied twice",
    bug_class="weights",
    stands_for=("vllm-project/vllm#45037",),
)
def scaling_twice(call: RouterCall, weights: Tensor) -> Tensor:
    return weights * call.scaling_factor**2


@router_fault("scale", "weights are rounded to bf16", bug_class="precision")
def router_weights_in_bf16(call: RouterCall, weights: Tensor) -> Tensor:
    return right.scale(call, weights).bfloat16().float()


@router_fault("store_ids", "ids are stored in eight signed bits", bug_class="index width")
def router_ids_in_int8(call: RouterCall, ids: Tensor) -> Tensor:
    return ids.to(torch.int8).int()


@router_fault("store_ids", "ids are stored in eight unsigned bits", bug_class="index width")
def router_ids_in_uint8(call: RouterCall, ids: Tensor) -> Tensor:
    return ids.to(torch.uint8).int()


@router_fault(
    "read_logits",
    "two rows share a program, and an odd last row is not read",
    bug_class="tile",
)
def odd_row_not_read(call: RouterCall) -> Tensor:
    logits = right.read_logits(call).clone()
    logits[len(logits) // 2 * 2 :] = 0
    return logits


@router_fault("read_logits", "logits are clamped in the caller's tensor", bug_class="memory")
def router_logits_written(call: RouterCall) -> Tensor:
    logits = right.read_logits(call).clone()
    call.router_logits.clamp_(min=0)
    return logits


@router_fault(
    "read_logits",
    "the logits' strides are not looked at",
    bug_class="layout",
    stands_for=("flashinfer-ai/flashinfer#4713",),
)
def router_strides_ignored(call: RouterCall) -> Tensor:
    logits = call.router_logits
    return logits.as_strided(logits.shape, (logits.shape[1], 1), logits.storage_offset()).float()


@router_fault("scale", "the weights of the last row are never written", bug_class="memory")
def router_weights_unwritten(call: RouterCall, weights: Tensor) -> Tensor:
    written = torch.empty_like(weights)
    written[:-1] = right.scale(call, weights)[:-1]
    return written
