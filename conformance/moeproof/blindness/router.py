"""Gross errors of ``route``: choices that do not follow the logits, weights that do not either.

A wrong choice must be refused if it takes an expert that is clearly out of place, and wrong
weights if they differ clearly: by more than ``CLEAR`` of the scores, which are no smaller than
float32's normal numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moeproof.blindness.sight import Sight
from moeproof.oracle import RightRouting, judge_routing, largest_places, right_routing
from moeproof.router_case import RouterProblem
from moeproof.router_inputs import RouterInputs

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CLEAR = 2.0**-10
"""Ten times what the exponentials of a right float32 router lose at the widest logits."""

_SMALLEST = 2.0**-100  # scores below may underflow in float32 on the way


def examine_router(inputs: RouterInputs, problem: RouterProblem) -> Iterator[Sight]:
    """How the judgement of a router case takes every kind of corruption, token by token."""
    right = right_routing(inputs, problem)
    judgement = _Judgement(inputs, problem, right, _misplaced(right, problem))
    yield from _wrong_choices(judgement)
    yield from _wrong_weights(judgement)


@dataclass(frozen=True)
class _Judgement:
    """The judgement of a case, and a right answer to it.

    Attributes:
        inputs, problem: the case's.
        right: a right answer.
        misplaced: (T, E) experts that no right router chooses, by a clear margin.
    """

    inputs: RouterInputs
    problem: RouterProblem
    right: RightRouting
    misplaced: BoolArray

    def refuses(self, ids: Int64Array, weights: Float64Array) -> BoolArray:
        """(T,): the tokens at which ids and weights (T, K) would be refused."""
        problem = self.problem
        violations = judge_routing(
            self.inputs,
            ids,
            weights,
            top_k=problem.top_k,
            **problem.rule,
            lowest_id_ties=False,
        )
        refused = np.zeros(len(ids), dtype=bool)
        refused[[violation.row for violation in violations]] = True
        return refused


def _wrong_choices(judgement: _Judgement) -> Iterator[Sight]:
    """Other ids, each with the weights that are right for them."""
    ids, ranking = judgement.right.ids, judgement.right.ranking
    top_k = judgement.problem.top_k
    replaced = ids.copy()
    chosen = np.zeros(ranking.shape, dtype=bool)
    np.put_along_axis(chosen, ids, True, axis=1)
    if top_k < ranking.shape[1]:
        replaced[:, 0] = np.where(chosen, np.inf, ranking).argmin(axis=1)
    choices = {
        "experts 0 to K - 1 for every token": np.broadcast_to(np.arange(top_k), ids.shape),
        "the next token's experts": np.roll(ids, -1, axis=0),
        "one expert replaced by the worst": replaced,
    }
    if judgement.problem.num_groups > 1:
        choices["the best experts of all groups"] = largest_places(ranking, top_k)
    if judgement.problem.has_bias:
        choices["the best experts without the bias"] = _without_bias(judgement.right)
    for corruption, spoilt in choices.items():
        misplaced = np.take_along_axis(judgement.misplaced, spoilt, axis=1).any(axis=1)
        yield Sight.of(
            corruption,
            active=(np.sort(spoilt, axis=1) != np.sort(ids, axis=1)).any(axis=1),
            judged=judgement.right.judged,
            substantial=misplaced,
            refused=judgement.refuses(spoilt, judgement.right.weights_of(spoilt)),
            describe=_at_token(corruption),
        )


def _without_bias(right: RightRouting) -> Int64Array:
    """The groups in use, but experts by their scores alone."""
    in_use = np.repeat(right.kept, right.score.shape[1] // right.kept.shape[1], axis=1)
    return largest_places(np.where(in_use, right.score, -np.inf), right.ids.shape[1])


def _wrong_weights(judgement: _Judgement) -> Iterator[Sight]:
    """The right ids with other weights."""
    right, problem = judgement.right, judgement.problem
    weights = right.weights_of(right.ids)
    mean = weights.mean(axis=1, keepdims=True)
    spoilt_weights = {
        "weights of 1 / K": np.full_like(weights, problem.scaling_factor / problem.top_k),
        "all weights their mean": np.broadcast_to(mean, weights.shape),
        "the next slot's weights": np.roll(weights, -1, axis=1),
        "all weights zero": np.zeros_like(weights),
    }
    # Quotients of scores that may underflow are lost.
    known = np.full(len(weights), True)
    if problem.renormalize:
        largest = np.take_along_axis(right.score, right.ids, axis=1).max(axis=1, initial=0.0)
        known = largest >= _SMALLEST
    for corruption, spoilt in spoilt_weights.items():
        change = np.abs(spoilt - weights)
        clear = change >= CLEAR * np.maximum(np.maximum(spoilt, weights), mean)
        yield Sight.of(
            corruption,
            active=(change > 0).any(axis=1),
            judged=right.judged,
            substantial=(clear & (change >= _SMALLEST)).any(axis=1) & known,
            refused=judgement.refuses(right.ids, spoilt),
            describe=_at_token(corruption),
        )


def _at_token(corruption: str) -> Callable[[int], str]:
    return lambda row: f"{corruption} (token {row})"


def _misplaced(right: RightRouting, problem: RouterProblem) -> BoolArray:
    """(T, E): experts clearly below the chosen ones, or in groups clearly below the kept ones."""
    tokens, experts = right.ranking.shape
    per_group = experts // problem.num_groups

    def of_group(array: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.repeat(array, per_group, axis=1)

    least_group = np.where(right.kept, right.group_ranking, np.inf).min(axis=1, keepdims=True)
    group_size = _sum_of_two_best(right.size, problem.num_groups)
    below = _clearly_below(right.group_ranking, least_group, group_size)
    groups_are_clear = (below | right.kept).all(axis=1, keepdims=True)

    least = np.take_along_axis(right.ranking, right.ids, axis=1).min(axis=1, keepdims=True)
    worse = _clearly_below(right.ranking, least, right.size)
    kept = np.asarray(of_group(right.kept), dtype=bool)
    return np.where(kept, worse & groups_are_clear, of_group(below)).reshape(tokens, experts)


def _clearly_below(values: Float64Array, least: Float64Array, size: Float64Array) -> BoolArray:
    """Where values (T, N) fall short of the ``least`` (T, 1), for terms of so large a size."""
    scale = np.maximum(size, np.abs(least))
    return (least - values >= CLEAR * scale) & (scale >= _SMALLEST)


def _sum_of_two_best(values: Float64Array, num_groups: int) -> Float64Array:
    tokens, experts = values.shape
    grouped = values.reshape(tokens, num_groups, experts // num_groups)
    return np.asarray(np.sort(grouped, axis=2)[:, :, -2:].sum(axis=2))
