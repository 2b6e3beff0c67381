"""Experts of as many rows as a block, one fewer and one more: they are there, and catch faults."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from moeproof import block_edge_cases, profiles
from moeproof.case import Case, ValueFamily
from moeproof.devices import Device
from moeproof.implementation import Capabilities, Implementation, load_implementation
from moeproof.inputs import make_routing
from moeproof.judge import judge, make_trial
from moeproof.verdict import Outcome, Verdict

CASES = list(block_edge_cases.large())


def mean_rows(case: Case) -> float:
    return case.problem.num_tokens * case.problem.top_k / case.problem.num_experts


MOST_ROWS = max(CASES, key=mean_rows)


def group_sizes(case: Case) -> set[int]:
    return set(np.bincount(make_routing(case).topk_ids.ravel()).tolist())


def test_gpus_judge_them_and_the_cpu_does_not() -> None:
    for device in ("cuda", "rocm"):
        assert set(CASES) <= {planned.case for planned in profiles.plan("standard", device)}
    for profile, device in (("standard", "cpu"), ("quick", "cuda"), ("emulated", "gfx942")):
        assert not set(CASES) & {planned.case for planned in profiles.plan(profile, device)}


def test_every_edge_stands_beside_the_others() -> None:
    edges = {
        height + offset for height in (16, 32, 64, 128, 160, 256, 288) for offset in (-1, 0, 1)
    }
    for case in CASES:
        if mean_rows(case) > 24:
            assert group_sizes(case) >= edges | {0, 1}, case.case_id


@pytest.mark.parametrize(("above", "at_most"), [(0, 8), (8, 24), (24, 48), (64, 1000)])
def test_every_table_of_tiles_is_met_in_every_dtype(above: int, at_most: int) -> None:
    """Beside an expert of more than one block of 128 rows."""
    dtypes = {
        case.problem.dtype
        for case in CASES
        if above < mean_rows(case) <= at_most and max(group_sizes(case)) > 128
    }
    assert dtypes == set(profiles.DTYPES)


def test_two_answers_are_exact() -> None:
    exact = [case.values for case in CASES if case.values is not ValueFamily.RANDOM]
    assert exact == [ValueFamily.EXACT_UP, ValueFamily.EXACT_DOWN]


# (rows of the slot's expert, the slot's place among them) -> this slot gets no block.
Lost = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
WRONG_SCHEDULES: dict[str, Lost] = {
    "the rows past 128 of an expert with up to 160": lambda rows, place: (
        (rows > 128) & (rows <= 160) & (place >= 128)
    ),
    "the rows past 256 of an expert with up to 288": lambda rows, place: (
        (rows > 256) & (rows <= 288) & (place >= 256)
    ),
    "a last row past a block of 160": lambda rows, place: (rows == 161) & (place == 160),
    "a last block of 64 that is full": lambda rows, place: (rows == 64) & (place >= 32),
    "a last block of 128 that is full": lambda rows, place: (
        (rows % 128 == 0) & (place >= rows - 128)
    ),
    "a last block of 256 with one row": lambda rows, place: (rows % 256 == 1) & (place == rows - 1),
    "a last block of 160 that is full": lambda rows, place: (rows == 160) & (place >= 128),
}


def judged(lost: Lost | None) -> Verdict:
    """Torch's experts without the slots that are lost; accuracy of the batch of most rows."""
    eager = load_implementation("torch_eager")

    def fused_experts(
        hidden_states: torch.Tensor,
        gate_up_proj: torch.Tensor,
        down_proj: torch.Tensor,
        topk_ids: torch.Tensor,
        topk_weights: torch.Tensor,
    ) -> torch.Tensor:
        if lost is not None:
            by_expert = torch.nn.functional.one_hot(topk_ids.flatten().long())
            place = (by_expert.cumsum(0) * by_expert).sum(1).reshape(topk_ids.shape) - 1
            rows = by_expert.sum(0)[topk_ids.long()]
            topk_weights = torch.where(lost(rows, place), 0.0, topk_weights)
        output: torch.Tensor = eager.fused_experts(
            hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights
        )
        return output

    subject = Implementation("subject", fused_experts, capabilities=Capabilities())
    return judge(make_trial(MOST_ROWS, subject, Device("cpu")), "accuracy")


def test_a_right_schedule_passes() -> None:
    assert judged(None).outcome is Outcome.PASS


@pytest.mark.parametrize("name", WRONG_SCHEDULES)
def test_a_schedule_that_loses_rows_is_caught(name: str) -> None:
    assert judged(WRONG_SCHEDULES[name]).outcome is Outcome.FAIL
