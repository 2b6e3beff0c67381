"""Is a routing a legal answer to the logits? Judged by its own ids, never against another's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.oracle.error_bound import FLOAT32_ROUNDOFF, FLOAT32_UNDERFLOW
from moeproof.oracle.scores import normalised, router_scores
from moeproof.oracle.selection import Ranking, group_choices, passed_over
from moeproof.router_inputs import RouterInputs

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Int64Array = NDArray[np.int64]


@dataclass(frozen=True)
class RoutingViolation:
    """A row that no right router returns.

    Attributes:
        row: the token.
        rule: "id out of range", "duplicate id", "group", "selection", "tie" or "weight".
        expert: the id at fault.
        got: for "weight" the weight, for "selection" the largest value that the expert may be
            ranked by, for "group" that of its group, for the others the id.
        lower, upper: what ``got`` must lie between.
    """

    row: int
    rule: str
    expert: int
    got: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return (
            f"row {self.row}, expert {self.expert}: {self.rule}; got {self.got:.9g}, allowed "
            f"[{self.lower:.9g}, {self.upper:.9g}]"
        )


def judge_routing(
    inputs: RouterInputs,
    topk_ids: NDArray[Any],
    topk_weights: NDArray[Any],
    *,
    top_k: int,
    scoring: str,
    renormalize: bool,
    num_groups: int,
    topk_groups: int,
    scaling_factor: float,
    lowest_id_ties: bool,
) -> list[RoutingViolation]:
    """The rows that break a rule, in order, each with the first rule that it breaks.

    A selection is legal iff some scores within their error (:mod:`moeproof.oracle.scores`) lead
    to it; with groups, iff some choice of groups within the error of the group scores does. The
    weights are judged for the ids that the router chose. The order of a row's ids is free.

    Rows with NaN or +Inf, and rows of -Inf alone, have no scores: only distinct ids in range are
    demanded of them. A single -Inf is a score of zero. Where all chosen scores may underflow to
    zero in float32, renormalised weights may be any numbers in [0, scaling_factor], for their
    quotients are lost; but never NaN, which would spoil a token that has a right answer.

    Args:
        inputs: logits (T, E) and the correction bias (E,), or None.
        topk_ids: (T, K) integers.
        topk_weights: (T, K).
        top_k: K.
        scoring: "softmax" or "sigmoid".
        renormalize: the chosen experts' scores are divided by their sum.
        num_groups: groups of consecutive experts; 1 means no groups.
        topk_groups: groups that may be chosen from: those with the largest sums of their two
            best biased scores (DeepSeek-V3 technical report, section 2.1.2).
        scaling_factor: multiplies the weights at the end.
        lowest_id_ties: of experts with bit-equal logits and biases the lower ids are chosen.

    Raises:
        ValueError: the ids' or the weights' shape is not (T, K), or ``scoring`` is unknown.
    """
    logits = inputs.router_logits.astype(np.float64)
    tokens, experts = logits.shape
    for name, array in (("topk_ids", topk_ids), ("topk_weights", topk_weights)):
        if array.shape != (tokens, top_k):
            raise ValueError(f"{name} must have shape {(tokens, top_k)}, got {array.shape}")
    ids = topk_ids.astype(np.int64)
    by_row = {violation.row: violation for violation in _id_violations(ids, experts)}
    judged = rows_with_scores(logits)
    judged[list(by_row)] = False
    # Rows that are not judged further take harmless values, and what is found there is dropped.
    logits = np.where(judged[:, None], logits, 0.0)
    ids = np.where(judged[:, None], ids, np.arange(top_k))
    chosen = np.zeros((tokens, experts), dtype=bool)
    np.put_along_axis(chosen, ids, True, axis=1)

    score, error = router_scores(logits, scoring)
    ranking = Ranking.of(score, error, inputs.correction_bias)
    choices = group_choices(ranking, chosen, num_groups=num_groups, topk_groups=topk_groups)
    impossible = np.flatnonzero(~choices.exists)
    found = _group_violations(
        ranking, ids, impossible, num_groups=num_groups, topk_groups=topk_groups
    )
    found += _selection_violations(ranking, ids, choices.best_left_out)
    if lowest_id_ties:
        bias = inputs.correction_bias if inputs.correction_bias is not None else np.zeros(experts)
        keys = np.stack([logits, np.broadcast_to(bias, logits.shape)], axis=2)
        found += _tie_violations(ids, passed_over(keys, ids, chosen, num_groups=num_groups))
    lower, upper = (
        np.take_along_axis(array, ids, axis=1) for array in (score - error, score + error)
    )
    lower, upper = _weight_range(lower, upper, renormalize=renormalize, scale=scaling_factor)
    found += _weight_violations(ids, topk_weights.astype(np.float64), lower, upper)
    for violation in found:
        if judged[violation.row]:
            by_row.setdefault(violation.row, violation)
    return [by_row[row] for row in sorted(by_row)]


def rows_with_scores(logits: Float64Array) -> BoolArray:
    """(T,): rows of logits (T, E) that are finite or -Inf, at least one of them finite."""
    usable = (logits < np.inf).all(axis=1)  # NaN is not less either
    return np.asarray(usable & np.isfinite(logits).any(axis=1))


def _id_violations(ids: Int64Array, experts: int) -> list[RoutingViolation]:
    outside = (ids < 0) | (ids >= experts)
    repeated = (ids[:, :, None] == ids[:, None, :]).sum(axis=2) > 1
    repeated &= ~outside.any(axis=1, keepdims=True)
    found = []
    for rule, fault in (("id out of range", outside), ("duplicate id", repeated)):
        for row, slot in _first_in_row(fault):
            expert = int(ids[row, slot])
            found.append(RoutingViolation(row, rule, expert, expert, 0, experts - 1))
    return found


def _group_violations(
    ranking: Ranking, ids: Int64Array, rows: Int64Array, *, num_groups: int, topk_groups: int
) -> list[RoutingViolation]:
    """For rows whose experts' groups are no legal choice: the expert of the worst group."""
    groups = ranking.of_groups(num_groups)
    group_size = ranking.upper.shape[1] // num_groups
    reach = np.take_along_axis(groups.upper, ids // group_size, axis=1)
    least = np.sort(groups.lower, axis=1)[:, -topk_groups]
    found = []
    for row in rows:
        slot = reach[row].argmin()
        got, lower = float(reach[row, slot]), float(least[row])
        found.append(RoutingViolation(int(row), "group", int(ids[row, slot]), got, lower, np.inf))
    return found


def _selection_violations(
    ranking: Ranking, ids: Int64Array, best_left_out: Float64Array
) -> list[RoutingViolation]:
    reach = np.take_along_axis(ranking.upper, ids, axis=1)
    found = []
    for row in np.flatnonzero(reach.min(axis=1) < best_left_out):
        slot = reach[row].argmin()
        got, lower = float(reach[row, slot]), float(best_left_out[row])
        expert = int(ids[row, slot])
        found.append(RoutingViolation(int(row), "selection", expert, got, lower, np.inf))
    return found


def _tie_violations(ids: Int64Array, passed: BoolArray) -> list[RoutingViolation]:
    found = []
    for row, slot in _first_in_row(passed):
        expert = int(ids[row, slot])
        found.append(RoutingViolation(row, "tie", expert, expert, 0, expert - 1))
    return found


def _weight_range(
    lower: Float64Array, upper: Float64Array, *, renormalize: bool, scale: float
) -> tuple[Float64Array, Float64Array]:
    """Right weights (T, K) for chosen scores between ``lower`` and ``upper``.

    Renormalised: a float32 sum of K terms, a division of two units in the last place and the
    scaling by a rounded factor lose (K + 6) 2^-24; otherwise the scaling alone loses 2 2^-24.
    """
    roundings = 2
    if renormalize:
        lower, upper = normalised(np.maximum(lower, 0.0), upper)
        roundings = lower.shape[1] + 6
    relative, underflow = roundings * FLOAT32_ROUNDOFF, FLOAT32_UNDERFLOW * max(scale, 1.0)
    return scale * lower * (1 - relative) - underflow, scale * upper * (1 + relative) + underflow


def _weight_violations(
    ids: Int64Array, weights: Float64Array, lower: Float64Array, upper: Float64Array
) -> list[RoutingViolation]:
    right = (lower <= weights) & (weights <= upper)
    return [
        RoutingViolation(
            row,
            "weight",
            int(ids[row, slot]),
            float(weights[row, slot]),
            float(lower[row, slot]),
            float(upper[row, slot]),
        )
        for row, slot in _first_in_row(~right)
    ]


def _first_in_row(fault: BoolArray) -> list[tuple[int, int]]:
    """(row, column) of the first True in each row that has one."""
    rows = np.flatnonzero(fault.any(axis=1))
    return [(int(row), int(fault[row].argmax())) for row in rows]
