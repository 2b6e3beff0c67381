"""A right answer to a router case in float64; :func:`judge_routing` knows many more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moeproof.oracle.router import rows_with_scores
from moeproof.oracle.scores import router_scores
from moeproof.router_case import RouterProblem
from moeproof.router_inputs import RouterInputs

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class RightRouting:
    """The choice that float64 makes, ties to the lower id, and what it is made by.

    Attributes:
        problem: the rules.
        judged: (T,) rows that have scores; the others are answered as rows of zeros.
        score: (T, E). ranking: (T, E) score plus correction bias.
        size: (T, E) score plus magnitude of the bias, to which rounding errors are relative.
        group_ranking: (T, G) sums of the two best of each group. kept: (T, G) groups in use.
        ids: (T, K).
    """

    problem: RouterProblem
    judged: BoolArray
    score: Float64Array
    ranking: Float64Array
    size: Float64Array
    group_ranking: Float64Array
    kept: BoolArray
    ids: Int64Array

    def weights_of(self, ids: Int64Array) -> Float64Array:
        """(T, K): the weights that follow from a choice of experts (T, K)."""
        weights = np.take_along_axis(self.score, ids, axis=1)
        if self.problem.renormalize:
            total = weights.sum(axis=1, keepdims=True)
            weights = weights / np.where(total > 0, total, 1.0)
        return np.asarray(weights * self.problem.scaling_factor)


def right_routing(inputs: RouterInputs, problem: RouterProblem) -> RightRouting:
    """The right answer to logits (T, E) and a correction bias (E,)."""
    logits = inputs.router_logits.astype(np.float64)
    judged = rows_with_scores(logits)
    score, _ = router_scores(np.where(judged[:, None], logits, 0.0), problem.scoring)
    bias = np.zeros(logits.shape[1])
    if inputs.correction_bias is not None:
        bias = inputs.correction_bias.astype(np.float64)
    ranking = score + bias
    per_group = problem.num_experts // problem.num_groups
    grouped = ranking.reshape(len(ranking), problem.num_groups, per_group)
    group_ranking = np.sort(grouped, axis=2)[:, :, -2:].sum(axis=2)
    kept = np.zeros(group_ranking.shape, dtype=bool)
    np.put_along_axis(kept, largest_places(group_ranking, problem.topk_groups), True, axis=1)
    eligible = np.repeat(kept, per_group, axis=1)
    ids = largest_places(np.where(eligible, ranking, -np.inf), problem.top_k)
    size = score + np.abs(bias)
    return RightRouting(problem, judged, score, ranking, size, group_ranking, kept, ids)


def largest_places(values: Float64Array, count: int) -> Int64Array:
    """(T, count): places of each row's largest values, in order, ties by place."""
    return np.asarray(np.argsort(-values, axis=1, kind="stable")[:, :count], dtype=np.int64)
