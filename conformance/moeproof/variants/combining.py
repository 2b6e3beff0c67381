"""Variants of the sum over the slots, and engines made of torch's own matrix products."""

from __future__ import annotations

import itertools

import torch

from moeproof.rounding_profile import RoundingProfile
from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import Call, Schedule, Tensor
from moeproof.variants.rounding_points import (
    rounded,
    silu_rounded,
    split_rounded,
    weigh_by_storage,
    weigh_rounded,
)
from moeproof.variants.variant import expert_variant

_UNORDERED = {
    "deterministic": False,
    "position_invariant": False,
    "batch_invariant": False,
    "expert_invariant": False,
}
_BLAS = {"position_invariant": False, "batch_invariant": False, "expert_invariant": False}
_turn = itertools.count()


def reversed_slots(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    """The last slot first."""
    return right.sum_slots(right.by_slot(call, slots, weighted).flip(1))


def pairs_of_slots(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    """As a tree."""
    return right.accumulate(call, right.by_slot(call, slots, weighted).transpose(1, 2))


def slots_as_they_come(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    """Another slot first at each call."""
    return right.sum_slots(right.by_slot(call, slots, weighted).roll(next(_turn), dims=1))


def by_expert(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    """Expert after expert, as an indexed addition does."""
    total = weighted.new_zeros((len(call.topk_ids), weighted.shape[1]))
    for expert in slots.expert.unique():
        here = slots.expert == expert
        total.index_add_(0, slots.token[here], weighted[here])
    return total


def sum_in_storage(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    """The sum over the slots rounded to storage after each."""
    total = weighted.new_zeros((len(call.topk_ids), weighted.shape[1]))
    for column in right.by_slot(call, slots, weighted).unbind(1):
        total = rounded(call, total + column)
    return total


def library_products(call: Call, rows: Tensor, weights: Tensor) -> Tensor:
    """(S, N, 1): torch's batched matrix product, summed as the library likes."""
    return torch.bmm(weights, rows[:, :, None])


expert_variant(
    "slots_reversed", "the slots are added from the last", engines="any combine kernel",
    combine=reversed_slots,
)  # fmt: skip
expert_variant(
    "slots_in_pairs", "the slots are added as a tree", engines="warp reductions",
    combine=pairs_of_slots,
)  # fmt: skip
expert_variant(
    "slots_as_they_come", "the slots are added in changing order", engines="atomic additions",
    claims=_UNORDERED, combine=slots_as_they_come,
)  # fmt: skip
expert_variant(
    "expert_by_expert", "each expert's rows are added to the output", engines="index_add",
    claims={"expert_invariant": False}, combine=by_expert,
)  # fmt: skip
expert_variant(
    "weights_in_storage", "routing weights are rounded to storage", engines="routers in 16 bits",
    weigh=weigh_by_storage,
    rounding=RoundingProfile("no", "no", "yes", "no", weights_in_storage_dtype=True),
)  # fmt: skip
expert_variant(
    "sums_slots_in_storage", "the sum over the slots is rounded after each",
    engines="vLLM's moe_sum; index_add on the output", combine=sum_in_storage,
    rounding=RoundingProfile("no", "no", "yes", "no", combine_in_output_dtype=True),
)  # fmt: skip
expert_variant(
    "plain_torch", "every step rounds, the sum over the slots included",
    engines="Hugging Face's eager experts",
    split=split_rounded, activate=silu_rounded, weigh=weigh_rounded, combine=sum_in_storage,
    rounding=RoundingProfile("yes", "yes", "yes", "yes", "after", combine_in_output_dtype=True),
)  # fmt: skip
expert_variant(
    "library_products", "torch's own matrix product", engines="BLAS",
    claims=_BLAS, multiply=library_products,
)  # fmt: skip
