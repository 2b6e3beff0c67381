"""Variants of the router."""

from __future__ import annotations

import torch

from moeproof.variants import router_steps as right
from moeproof.variants.router_steps import RouterCall, Tensor
from moeproof.variants.variant import router_variant


def score_in_float32(call: RouterCall, logits: Tensor) -> Tensor:
    """torch's own softmax and sigmoid in float32."""
    return logits.softmax(dim=1) if call.scoring == "softmax" else logits.sigmoid()


def score_by_exp2(call: RouterCall, logits: Tensor) -> Tensor:
    """exp2 of arguments that are scaled first, as online softmax does."""
    scaled = logits * 1.4426950408889634
    if call.scoring == "sigmoid":
        return 1 / (1 + torch.exp2(-scaled))
    exponentials = torch.exp2(scaled - scaled.amax(dim=1, keepdim=True))
    total = torch.zeros_like(exponentials[:, 0])
    for column in exponentials.unbind(1):
        total = total + column
    return exponentials / total[:, None]


def select_highest_ids(call: RouterCall, ranking: Tensor) -> Tensor:
    """Ties go to the higher id."""
    return call.num_experts - 1 - right.best(ranking.flip(1), call.top_k)


def select_by_topk(call: RouterCall, ranking: Tensor) -> Tensor:
    """torch.topk, which leaves ties open, in no order."""
    return ranking.topk(call.top_k, dim=1, sorted=False).indices


def select_in_order_of_ids(call: RouterCall, ranking: Tensor) -> Tensor:
    """The right experts, sorted by their ids."""
    return right.select(call, ranking).sort(dim=1).values


def rank_logits(call: RouterCall, scores: Tensor) -> Tensor:
    """Without a bias the logits are in the order of the scores."""
    if call.correction_bias is not None or call.num_groups > 1:
        return right.rank(call, scores)
    return right.rank(call, right.read_logits(call))


def normalise_chosen_logits(call: RouterCall, scores: Tensor, ids: Tensor) -> Tensor:
    """Where softmax is renormalised: a softmax over the chosen logits alone.

    Not under a bias, which may choose logits of -inf alone.
    """
    biased = call.correction_bias is not None
    if biased or not (call.renormalize and call.scoring == "softmax"):
        return right.weigh(call, scores, ids)
    return right.read_logits(call).gather(1, ids).softmax(dim=1)


def scale_first(call: RouterCall, weights: Tensor) -> Tensor:
    """The scaling factor, then the normalisation with its reciprocal."""
    scaled = weights * call.scaling_factor
    if not call.renormalize:
        return scaled
    total = weights.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return scaled * (1 / total)


def unscaled(call: RouterCall, weights: Tensor) -> Tensor:
    """Weights that have been scaled already."""
    return weights


def ids_in_int64(call: RouterCall, ids: Tensor) -> Tensor:
    """The ids as int64."""
    return ids


_OPEN_TIES = {"lowest_id_ties": False}

router_variant("router", "scores through float64", engines="the steps as they are")
router_variant(
    "router_in_float32", "softmax and sigmoid in float32", engines="torch",
    claims=_OPEN_TIES, score=score_in_float32, store_ids=ids_in_int64,
)  # fmt: skip
router_variant(
    "router_by_exp2", "exponentials of scaled logits, summed in order", engines="online softmax",
    claims=_OPEN_TIES, score=score_by_exp2,
)  # fmt: skip
router_variant(
    "router_highest_ids", "ties go to the higher id", engines="bitonic sorts of (score, id)",
    claims=_OPEN_TIES, select=select_highest_ids,
)  # fmt: skip
router_variant(
    "router_by_topk", "torch.topk, unsorted", engines="torch",
    claims=_OPEN_TIES, select=select_by_topk,
)  # fmt: skip
router_variant(
    "router_sorted_ids", "chosen experts in the order of their ids", engines="mask-based selection",
    select=select_in_order_of_ids,
)  # fmt: skip
router_variant(
    "router_ranks_logits", "chosen by logits, weighed by a softmax over them",
    engines="fused top-k", claims=_OPEN_TIES, rank=rank_logits, weigh=normalise_chosen_logits,
)  # fmt: skip
router_variant(
    "router_scales_first", "scaled, then multiplied by a reciprocal", engines="fused epilogues",
    normalise=scale_first, scale=unscaled,
)  # fmt: skip
