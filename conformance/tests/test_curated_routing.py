"""Each curated routing is what its name says, and meets the fault that it was made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from moeproof.bug_classes import BUG_CLASSES
from moeproof.case import Case
from moeproof.curated_routing import CuratedRouting, curated_routings
from moeproof.devices import resolve_device
from moeproof.implementation import Implementation, load_implementation
from moeproof.judge import judge, make_trial
from moeproof.patterns import PATTERNS
from moeproof.problem import Problem
from moeproof.routing_pattern import find_pattern
from moeproof.verdict import Outcome


def curated_case(name: str) -> Case:
    curated = curated_routings()[name]
    problem = Problem(curated.num_tokens, 40, 24, curated.num_experts, curated.top_k, dtype="bf16")
    return Case(problem, f"curated:{name}")


def group_sizes(curated: CuratedRouting) -> list[int]:
    """Slots of each expert."""
    ids = np.array(curated.topk_ids)
    return [int((ids == expert).sum()) for expert in range(curated.num_experts)]


def has(*wanted: int) -> Callable[[CuratedRouting], bool]:
    return lambda curated: set(wanted) <= {i for row in curated.topk_ids for i in row}


def sums(curated: CuratedRouting) -> list[float]:
    assert curated.topk_weights is not None
    return [sum(row) for row in curated.topk_weights]


WHAT_THE_NAME_SAYS: dict[str, Callable[[CuratedRouting], bool]] = {
    "all_tokens_one_expert_overflows_tile": lambda c: group_sizes(c) == [0] * 5 + [129, 0, 0],
    "alternating_masks": lambda c: all(
        (expert == -1) == ((slot + token) % 2 == 1)
        for token, row in enumerate(c.topk_ids)
        for slot, expert in enumerate(row)
    ),
    "descending_slots": lambda c: all(list(row) == sorted(row, reverse=True) for row in c.topk_ids),
    "duplicate_expert_in_row": lambda c: any(len(set(row)) < c.top_k for row in c.topk_ids),
    "empty_first_expert_unwritten": lambda c: group_sizes(c)[0] == 0 < min(group_sizes(c)[1:]),
    "every_slot_masked": lambda c: {i for row in c.topk_ids for i in row} == {-1},
    "expert_1024_past_one_scan_block": lambda c: c.num_experts == 1025 and has(1024)(c),
    "expert_128_past_power_of_two": lambda c: c.num_experts == 129 and has(128)(c),
    "experts_255_256_257": has(255, 256, 257),
    "first_token_wholly_masked": lambda c: set(c.topk_ids[0]) == {-1},
    "gap_of_empty_experts": lambda c: group_sizes(c) == [3] + [0] * 14 + [3],
    "global_ids_past_local_experts": lambda c: has(*range(2 * c.num_experts))(c),
    "groups_of_15_16_17": lambda c: group_sizes(c) == [15, 16, 17, 0],
    "groups_of_63_64_65": lambda c: group_sizes(c) == [63, 64, 65, 3, 0],
    "int32_extreme_ids": has(2**31 - 1, -(2**31)),
    "k_not_power_of_two": lambda c: c.top_k == 6,
    "last_token_wholly_masked": lambda c: set(c.topk_ids[-1]) == {-1},
    "minus_one_wraps_to_last_expert": lambda c: has(-1, c.num_experts - 1)(c),
    "negative_weights": lambda c: all(min(row) < 0 for row in c.topk_weights or ()),
    "one_token_per_expert": lambda c: set(group_sizes(c)) == {1},
    "sentinel_equals_num_experts": lambda c: has(c.num_experts, c.num_experts - 1)(c),
    "seventeenth_token_opens_a_tile": lambda c: group_sizes(c) == [0, 17, 0],
    "single_token_top_k_all_experts": lambda c: c.num_tokens == 1 and set(group_sizes(c)) == {1},
    "top_1_weight_below_one": lambda c: c.top_k == 1 and min(sums(c)) < 1,
    "unnormalised_weights": lambda c: sums(c) == [2.5] * 3,
    "weights_differ_from_row_to_row": lambda c: sums(c) == [1.5 * 2.0**-t for t in range(6)],
    "zero_weight_slot": lambda c: any(0.0 in row and sum(row) for row in c.topk_weights or ()),
}


def test_every_curated_routing_is_described_here():
    assert set(curated_routings()) == set(WHAT_THE_NAME_SAYS)


@pytest.mark.parametrize("name", WHAT_THE_NAME_SAYS)
def test_it_is_what_its_name_says(name):
    assert WHAT_THE_NAME_SAYS[name](curated_routings()[name])


@pytest.mark.parametrize("name", WHAT_THE_NAME_SAYS)
def test_it_is_well_formed(name):
    curated = curated_routings()[name]
    assert curated.summary
    assert curated.bug_class in BUG_CLASSES
    assert curated.source
    assert all("#" in issue and "/" in issue for issue in curated.source)
    assert {len(row) for row in curated.topk_ids} == {curated.top_k}
    if curated.topk_weights is not None:
        assert np.shape(curated.topk_weights) == np.shape(curated.topk_ids)
    assert Case.parse(curated_case(name).case_id) == curated_case(name)


def test_patterns_meet_known_classes_of_bugs():
    assert {meets for pattern in PATTERNS.values() for meets in pattern.meets} <= set(BUG_CLASSES)


def test_masks_and_duplicates_are_told_by_the_ids():
    masked = {name for name in curated_routings() if find_pattern(f"curated:{name}")[0].masked}
    assert masked == {
        "alternating_masks",
        "every_slot_masked",
        "first_token_wholly_masked",
        "global_ids_past_local_experts",
        "int32_extreme_ids",
        "last_token_wholly_masked",
        "minus_one_wraps_to_last_expert",
        "sentinel_equals_num_experts",
    }
    repeated = {
        name for name in curated_routings() if find_pattern(f"curated:{name}")[0].duplicates
    }
    assert repeated == {"duplicate_expert_in_row"}


def test_a_routing_for_other_sizes_is_refused():
    with pytest.raises(ValueError, match="every_slot_masked is for T=3, E=4, K=2"):
        Case(Problem(4, 40, 24, 5, 2, "bf16"), "curated:every_slot_masked")
    with pytest.raises(ValueError, match="needs one of all_tokens_one_expert"):
        Case(Problem(4, 40, 24, 5, 2, "bf16"), "curated:no_such_routing")


# What goes wrong in the issues that the routings are taken from, done to a right implementation:
# a change of the ids (T, K) and weights (T, K) that the experts are computed with.
Fault = Callable[[torch.Tensor, torch.Tensor, int], "tuple[torch.Tensor, torch.Tensor]"]


def keep(ids: torch.Tensor, weights: torch.Tensor, kept: torch.Tensor):
    return ids.masked_fill(~kept, -1), weights


def rank_in_group(ids: torch.Tensor) -> torch.Tensor:
    """(T, K): how many slots of the same expert come before."""
    flat = ids.reshape(-1)
    same = flat[:, None] == flat[None, :]
    return same.tril(-1).sum(dim=1).reshape(ids.shape)


def wrap(ids, weights, experts):
    return torch.where(ids < experts, ids % experts, ids), weights


def clamp(ids, weights, experts):
    return ids.clamp(max=experts - 1), weights


def strip_last_expert(ids, weights, experts):
    return keep(ids, weights, ids != experts - 1)


def eight_bit_ids(ids, weights, experts):
    return ids & 0xFF, weights


def sixteen_bit_ids(ids, weights, experts):
    return ids.to(torch.int16).to(torch.int32), weights


def drop_tail_of_tile(height: int) -> Fault:
    """Groups longer than a tile lose what does not fill one."""

    def fault(ids, weights, experts):
        rank = rank_in_group(ids)
        size = (ids.reshape(-1)[None, None, :] == ids[..., None]).sum(dim=2)
        return keep(ids, weights, (size <= height) | (rank < size // height * height))

    return fault


def cap_groups(capacity: int) -> Fault:
    return lambda ids, weights, experts: keep(ids, weights, rank_in_group(ids) < capacity)


def forget_experts_from(first: int) -> Fault:
    return lambda ids, weights, experts: keep(ids, weights, ids < first)


def stop_at_empty_group(ids, weights, experts):
    sizes = torch.bincount(ids[(ids >= 0) & (ids < experts)].reshape(-1), minlength=experts)
    first_empty = int((sizes == 0).int().argmax())
    return keep(ids, weights, ids < first_empty)


def only_first_group(ids, weights, experts):
    return keep(ids, weights, ids == ids[ids >= 0].min())


def last_of_duplicates(ids, weights, experts):
    repeated = (ids[:, :, None] == ids[:, None, :]).triu(1).any(dim=2)
    return keep(ids, weights, ~repeated)


def only_power_of_two_slots(ids, weights, experts):
    return keep(ids, weights, torch.arange(ids.shape[1]) < 2 ** (ids.shape[1].bit_length() - 1))


def sort_ids_alone(ids, weights, experts):
    return ids.sort(dim=1).values, weights


def normalise(ids, weights, experts):
    return ids, weights / weights.sum(dim=1, keepdim=True)


def weights_of_the_row_before(ids, weights, experts):
    return ids, weights.roll(1, dims=0)


def lose_the_sign(ids, weights, experts):
    return ids, weights.abs()


def weigh_zero_as_one(ids, weights, experts):
    return ids, torch.where(weights == 0, 1.0, weights)


def leave_masked_rows(output: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Rows of wholly masked tokens stay as the allocation left them."""
    return output.masked_fill((ids == -1).all(dim=1, keepdim=True), float("nan"))


FAULTS: dict[str, Fault] = {
    "all_tokens_one_expert_overflows_tile": cap_groups(128),
    "alternating_masks": wrap,
    "descending_slots": sort_ids_alone,
    "duplicate_expert_in_row": last_of_duplicates,
    "empty_first_expert_unwritten": stop_at_empty_group,
    "expert_1024_past_one_scan_block": forget_experts_from(1024),
    "expert_128_past_power_of_two": forget_experts_from(128),
    "experts_255_256_257": eight_bit_ids,
    "gap_of_empty_experts": stop_at_empty_group,
    "global_ids_past_local_experts": clamp,
    "groups_of_15_16_17": drop_tail_of_tile(16),
    "groups_of_63_64_65": drop_tail_of_tile(64),
    "int32_extreme_ids": sixteen_bit_ids,
    "k_not_power_of_two": only_power_of_two_slots,
    "minus_one_wraps_to_last_expert": wrap,
    "negative_weights": lose_the_sign,
    "one_token_per_expert": only_first_group,
    "sentinel_equals_num_experts": strip_last_expert,
    "seventeenth_token_opens_a_tile": drop_tail_of_tile(16),
    "single_token_top_k_all_experts": only_first_group,
    "top_1_weight_below_one": normalise,
    "unnormalised_weights": normalise,
    "weights_differ_from_row_to_row": weights_of_the_row_before,
    "zero_weight_slot": weigh_zero_as_one,
}
LEAVES_MASKED_ROWS = (
    "every_slot_masked",
    "first_token_wholly_masked",
    "last_token_wholly_masked",
)


def accuracy(name: str, implementation: Implementation) -> Outcome:
    trial = make_trial(curated_case(name), implementation, resolve_device("cpu"))
    return judge(trial, "accuracy").outcome


@pytest.mark.parametrize("name", WHAT_THE_NAME_SAYS)
def test_a_right_implementation_passes(name):
    assert accuracy(name, load_implementation("torch_eager")) is Outcome.PASS


@pytest.mark.parametrize("name", FAULTS)
def test_it_meets_the_fault_it_was_made_for(name):
    right = load_implementation("torch_eager")

    def faulty(hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights):
        ids, weights = FAULTS[name](topk_ids, topk_weights, gate_up_proj.shape[0])
        return right.fused_experts(hidden_states, gate_up_proj, down_proj, ids, weights)

    assert accuracy(name, replace(right, fused_experts=faulty)) is Outcome.FAIL


@pytest.mark.parametrize("name", LEAVES_MASKED_ROWS)
def test_it_meets_rows_that_nobody_writes(name):
    right = load_implementation("torch_eager")

    def faulty(*arguments):
        return leave_masked_rows(right.fused_experts(*arguments), arguments[3])

    assert accuracy(name, replace(right, fused_experts=faulty)) is Outcome.FAIL


def test_every_curated_routing_has_its_fault():
    assert set(FAULTS) | set(LEAVES_MASKED_ROWS) == set(curated_routings())


def test_an_implementation_without_masks_is_not_judged_on_them():
    right = load_implementation("torch_eager")
    modest = replace(
        right,
        capabilities=replace(right.capabilities, masked_ids=False, duplicate_ids=False),
    )
    assert accuracy("alternating_masks", modest) is Outcome.UNSUPPORTED
    assert accuracy("duplicate_expert_in_row", modest) is Outcome.UNSUPPORTED
    assert accuracy("groups_of_15_16_17", modest) is Outcome.PASS
