"""Faults in the routing weights and in the sum over a token's slots."""

from __future__ import annotations

from dataclasses import replace

import torch

from moeproof.faults.fault import call_fault, expert_fault
from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import RIGHT_EXPERTS, Call, Schedule, Tensor


def _weigh_by(call: Call, slots: Schedule, outputs: Tensor, weights: Tensor) -> Tensor:
    return right.weigh(replace(call, topk_weights=weights), slots, outputs)


@expert_fault(
    "weigh",
    "routing weights are applied twice",
    bug_class="weights",
    stands_for=("vllm-project/vllm#45037",),
)
def weights_twice(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    return _weigh_by(call, slots, outputs, call.topk_weights**2)


@expert_fault("weigh", "routing weights are not applied", bug_class="weights")
def weights_missing(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    return outputs


@call_fault(
    "routing weights are applied to the expert's input",
    bug_class="weights",
    stands_for=("vllm-project/vllm#43694",),
)
def weights_on_input(call: Call) -> Tensor:
    right.validate(call)
    tokens, top_k = call.topk_ids.shape
    rows = call.hidden_states.float()[:, None, :] * call.topk_weights[:, :, None]
    each_slot_a_token = replace(
        call,
        hidden_states=rows.flatten(0, 1).to(call.dtype),
        topk_ids=call.topk_ids.reshape(-1, 1),
        topk_weights=torch.ones_like(call.topk_weights).reshape(-1, 1),
    )
    outputs = RIGHT_EXPERTS.run(each_slot_a_token).float()
    return right.sum_slots(outputs.reshape(tokens, top_k, -1)).to(call.dtype)


@expert_fault(
    "weigh",
    "the routing weights of the next row are used",
    bug_class="weights",
    stands_for=("vllm-project/vllm#48895",),
)
def weights_of_next_row(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    return _weigh_by(call, slots, outputs, call.topk_weights.roll(-1, dims=0))


@expert_fault("weigh", "routing weights are normalised once more", bug_class="weights")
def weights_renormalised(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    total = call.topk_weights.sum(dim=1, keepdim=True)
    return _weigh_by(call, slots, outputs, call.topk_weights / total)


@expert_fault("weigh", "a row's ids are sorted, and its weights are not", bug_class="weights")
def weights_in_order_of_ids(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    place = call.topk_ids.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return _weigh_by(call, slots, outputs, call.topk_weights.gather(1, place))


@expert_fault("weigh", "rows are sorted by expert, and their weights are not", bug_class="weights")
def weights_not_sorted_by_expert(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    return outputs * call.topk_weights.flatten()[: len(outputs), None]


@expert_fault("weigh", "the first slot's weight serves all slots", bug_class="weights")
def weight_of_first_slot(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    first = call.topk_weights[:, :1].expand_as(call.topk_weights)
    return _weigh_by(call, slots, outputs, first)


@expert_fault("weigh", "slots with a weight below 2**-10 are skipped", bug_class="weights")
def small_weights_dropped(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    kept = torch.where(call.topk_weights.abs() < 2.0**-10, 0.0, call.topk_weights)
    return _weigh_by(call, slots, outputs, kept)


@expert_fault(
    "combine", "the last slot overwrites the others instead of being added", bug_class="combine"
)
def last_slot_wins(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    total = weighted.new_zeros((len(call.topk_ids), weighted.shape[1]))
    for column in range(call.topk_ids.shape[1]):
        here = slots.slot == column
        total[slots.token[here]] = weighted[here]
    return total


@expert_fault("combine", "the last slot is not added", bug_class="combine")
def last_slot_lost(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    table = right.by_slot(call, slots, weighted)
    return right.sum_slots(table[:, : max(1, table.shape[1] - 1)])


@expert_fault("combine", "the slots are averaged instead of summed", bug_class="combine")
def slots_averaged(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    return right.combine(call, slots, weighted) / call.topk_ids.shape[1]


@expert_fault(
    "combine",
    "the sum is scaled up for slots that are -1, as if weights had to sum to one",
    bug_class="-1 ids",
)
def masked_weight_redistributed(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    inside = (call.topk_ids >= 0) & (call.topk_ids < call.num_experts)
    kept = (call.topk_weights * inside).sum(dim=1)
    factor = torch.where(kept > 0, call.topk_weights.sum(dim=1) / kept, 1.0)
    return right.combine(call, slots, weighted) * factor[:, None]


@expert_fault(
    "weigh", "a routing weight of zero is taken for none and becomes one", bug_class="weights"
)
def zero_weight_taken_for_none(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    weights = call.topk_weights
    return _weigh_by(call, slots, outputs, torch.where(weights == 0, 1.0, weights))


@expert_fault("weigh", "routing weights are clamped to one", bug_class="weights")
def weights_clamped_to_one(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    return _weigh_by(call, slots, outputs, call.topk_weights.clamp(max=1.0))
