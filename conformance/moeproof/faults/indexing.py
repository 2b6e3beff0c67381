"""Faults in who is multiplied with what: the schedule and the masked ids."""

from __future__ import annotations

from dataclasses import replace

import torch

from moeproof.faults.fault import expert_fault
from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import Call, Schedule, Tensor


@expert_fault(
    "schedule",
    "weights are counted by the groups in use, so an empty expert shifts those after it",
    bug_class="schedule",
    stands_for=("ROCm/aiter#2478",),
)
def expert_offset_skips_empty(call: Call) -> Schedule:
    slots = right.schedule(call)
    rank = torch.unique(slots.expert, return_inverse=True)[1]
    return replace(slots, expert=rank)


@expert_fault(
    "schedule",
    "only the first group in use is computed",
    bug_class="schedule",
    stands_for=("flashinfer-ai/flashinfer#3792",),
)
def only_first_group(call: Call) -> Schedule:
    slots = right.schedule(call)
    return slots.keep(slots.expert == slots.expert.min()) if len(slots.expert) else slots


@expert_fault("schedule", "the loop over experts ends one early", bug_class="schedule")
def last_expert_lost(call: Call) -> Schedule:
    slots = right.schedule(call)
    return slots.keep(slots.expert < call.num_experts - 1)


@expert_fault(
    "schedule",
    "an empty first expert still runs a tile, over the next group's first row",
    bug_class="schedule",
    stands_for=("pytorch/pytorch#172439",),
)
def empty_first_takes_a_row(call: Call) -> Schedule:
    slots = right.schedule(call)
    expert = slots.expert.clone()
    if (expert != 0).all():
        expert[:1] = 0
    return replace(slots, expert=expert)


@expert_fault(
    "schedule",
    "an empty expert amid others still runs a tile, over the next group's first row",
    bug_class="schedule",
    stands_for=("pytorch/pytorch#172439",),
)
def empty_middle_takes_a_row(call: Call) -> Schedule:
    slots = right.schedule(call)
    expert = slots.expert.clone()
    if len(expert):
        inner = torch.arange(int(expert.min()), int(expert.max()), device=expert.device)
        empty = inner[~torch.isin(inner, expert)]
        expert[torch.searchsorted(slots.expert, empty)] = empty
    return replace(slots, expert=expert)


@expert_fault(
    "schedule",
    "an empty last expert still runs a tile, over the last row of the group before",
    bug_class="schedule",
    stands_for=("pytorch/pytorch#172439",),
)
def empty_last_takes_a_row(call: Call) -> Schedule:
    slots = right.schedule(call)
    expert = slots.expert.clone()
    last = call.num_experts - 1
    if (expert != last).all():
        expert[-1:] = last
    return replace(slots, expert=expert)


def _with_ids(call: Call, ids: Tensor) -> Schedule:
    return right.schedule(replace(call, topk_ids=ids))


@expert_fault(
    "schedule",
    "id -1 wraps to the last expert, as a negative index does",
    bug_class="-1 ids",
    stands_for=("vllm-project/vllm#46408",),
)
def masked_wraps_to_last_expert(call: Call) -> Schedule:
    return _with_ids(call, call.topk_ids % call.num_experts)


@expert_fault(
    "schedule",
    "ids at and past E are taken as the last expert",
    bug_class="-1 ids",
    stands_for=("ROCm/aiter#4636",),
)
def past_end_taken_as_last(call: Call) -> Schedule:
    return _with_ids(call, call.topk_ids.clamp(max=call.num_experts - 1))


@expert_fault("schedule", "id -1 is taken as expert 0", bug_class="-1 ids")
def masked_taken_as_first(call: Call) -> Schedule:
    return _with_ids(call, call.topk_ids.clamp(min=0))


@expert_fault(
    "schedule",
    "where some ids are -1, a real expert is stripped along with the padding",
    bug_class="-1 ids",
    stands_for=("ROCm/aiter#5595",),
)
def masked_strips_an_expert(call: Call) -> Schedule:
    slots = right.schedule(call)
    some_masked = len(slots.expert) < call.topk_ids.numel()
    return slots.keep(slots.expert != slots.expert.min()) if some_masked else slots


@expert_fault(
    "schedule", "a masked slot ends its row: later slots of the token are lost", bug_class="-1 ids"
)
def masked_ends_the_row(call: Call) -> Schedule:
    masked = (call.topk_ids < 0) | (call.topk_ids >= call.num_experts)
    return _with_ids(call, torch.where(masked.cumsum(dim=1) > 0, -1, call.topk_ids))


@expert_fault(
    "schedule",
    "an expert that a token names twice counts once",
    bug_class="schedule",
)
def duplicates_counted_once(call: Call) -> Schedule:
    ids = call.topk_ids
    equal = ids[:, :, None] == ids[:, None, :]
    repeated = torch.tril(equal, diagonal=-1).any(dim=2)
    return _with_ids(call, torch.where(repeated, -1, ids))


@expert_fault("weigh", "the first two rows of a group change places", bug_class="schedule")
def rows_swapped(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    rank, size = slots.rank(), slots.group_size()
    index = torch.arange(len(rank), device=rank.device)
    other = index + ((rank == 0) & (size > 1)).long() - (rank == 1).long()
    return right.weigh(call, slots, outputs[other])


@expert_fault(
    "schedule",
    "a group whose last 16-row tile holds one row loses that row",
    bug_class="schedule",
    stands_for=("ROCm/aiter#3933",),
)
def tile_of_one_row_lost(call: Call) -> Schedule:
    return _without_tail(call, height=16, remainder=1)


@expert_fault(
    "schedule",
    "a group of a multiple of 32 rows loses its last row",
    bug_class="schedule",
    stands_for=("ROCm/aiter#3933",),
)
def full_tile_loses_a_row(call: Call) -> Schedule:
    return _without_tail(call, height=32, remainder=0)


@expert_fault("schedule", "rows past the 128th of a group are lost", bug_class="schedule")
def group_past_128_rows_lost(call: Call) -> Schedule:
    slots = right.schedule(call)
    return slots.keep(slots.rank() < 128)


def _without_tail(call: Call, *, height: int, remainder: int) -> Schedule:
    slots = right.schedule(call)
    size = slots.group_size()
    last = slots.rank() == size - 1
    return slots.keep(~(last & (size > 1) & (size % height == remainder)))


@expert_fault(
    "schedule",
    "experts from 64 on are lost: one scan block's width",
    bug_class="schedule",
    stands_for=("ROCm/aiter#1869",),
)
def experts_past_64_lost(call: Call) -> Schedule:
    slots = right.schedule(call)
    return slots.keep(slots.expert < 64)


@expert_fault(
    "schedule",
    "ids are kept in eight signed bits: from 128 on they are negative",
    bug_class="index width",
)
def ids_in_int8(call: Call) -> Schedule:
    inside = (call.topk_ids >= 0) & (call.topk_ids < call.num_experts)
    return _with_ids(call, torch.where(inside, call.topk_ids.to(torch.int8).long(), -1))


@expert_fault(
    "schedule",
    "ids are kept in eight unsigned bits: expert 256 is expert 0",
    bug_class="index width",
    stands_for=("kekzl/imp#2056",),
)
def ids_in_uint8(call: Call) -> Schedule:
    inside = (call.topk_ids >= 0) & (call.topk_ids < call.num_experts)
    return _with_ids(call, torch.where(inside, call.topk_ids & 255, -1))


@expert_fault(
    "schedule",
    "experts from 1024 on are lost: one scan block's width",
    bug_class="schedule",
    stands_for=("sgl-project/sglang#21610",),
)
def experts_past_1024_lost(call: Call) -> Schedule:
    slots = right.schedule(call)
    return slots.keep(slots.expert < 1024)


@expert_fault("schedule", "slots past the eighth are ignored", bug_class="schedule")
def top_k_past_8_lost(call: Call) -> Schedule:
    slots = right.schedule(call)
    return slots.keep(slots.slot < 8)


@expert_fault(
    "schedule",
    "top-k is rounded down to a power of two",
    bug_class="schedule",
    stands_for=("vllm-project/vllm#46406",),
)
def top_k_power_of_two(call: Call) -> Schedule:
    slots = right.schedule(call)
    power = 1 << (call.topk_ids.shape[1].bit_length() - 1)
    return slots.keep(slots.slot < power)
