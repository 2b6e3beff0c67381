"""Is every element of the output inside the interval that a right implementation can land in?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.blindness import blind_spot, examine_experts
from moeproof.checks.check import Check, is_expert_case, missing_for_experts
from moeproof.checks.error_evidence import with_error_sketch
from moeproof.inputs import ExpertInputs
from moeproof.oracle import R_LIMIT, R_MINIMUM_OUTPUTS, Interval, r_statistic
from moeproof.trial import Trial
from moeproof.verdict import Finding, Outcome, WorstElement

_MAP_ROWS, _MAP_COLUMNS = 32, 48


class VacuousCaseError(Exception):
    """A grossly wrong output would have passed: the case says nothing about the implementation."""


def judge_accuracy(trial: Trial) -> Finding:
    """Judge the implementation's output on the case itself.

    Figures: those of :func:`judge_output`, and on values with random signs ``r_statistic``
    (:func:`moeproof.oracle.r_statistic`).

    Raises:
        VacuousCaseError: a grossly wrong output would pass as well.
    """
    finding = _judge(trial)
    if finding.outcome is Outcome.PASS and not trial.case.values.is_exact:
        require_sight(trial.inputs, trial.interval)  # exact values are the exact check's business
    return finding


def _judge(trial: Trial) -> Finding:
    finding = judge_output(trial.output, inputs=trial.inputs, interval=trial.interval)
    if finding.outcome is Outcome.FAIL or not trial.case.values.has_independent_signs:
        return finding
    judged = ~trial.interval.overflow & (trial.interval.bound > 0)
    if judged.sum() < R_MINIMUM_OUTPUTS:
        return finding
    statistic = r_statistic(trial.output, trial.interval)
    figures = {**finding.figures, "r_statistic": statistic}
    if statistic <= R_LIMIT:
        return replace(finding, figures=figures)
    message = (
        f"every element is inside, but errors are {statistic:.3g} times as large as random "
        f"rounding makes them (allowed {R_LIMIT})"
    )
    return Finding(Outcome.FAIL, message, figures)


def judge_output(output: NDArray[Any], *, inputs: ExpertInputs, interval: Interval) -> Finding:
    """Judge an output (T, H) against its interval.

    Figures: ``max_error_ratio`` (error over bound, above 1 is wrong), ``wrong_elements``,
    ``wrong_tokens``, ``unjudged_elements`` (a stage may overflow there), ``zeros_refused`` (share
    of the judged elements at which a zero would be wrong).

    Raises:
        VacuousCaseError: some expert contributes, yet zeros would pass.
    """
    actual = output.astype(np.float64)
    zeros_refused = _require_signal(interval, inputs)
    accepted = interval.accepts(actual)
    ratio = interval.error_ratio(actual)
    figures = {
        "max_error_ratio": float(ratio.max(initial=0.0)),
        "wrong_elements": float((~accepted).sum()),
        "wrong_tokens": float((~accepted).any(axis=1).sum()),
        "unjudged_elements": float(interval.overflow.sum()),
        "zeros_refused": zeros_refused,
    }
    if accepted.all():
        return Finding(Outcome.PASS, figures=figures)
    worst = worst_element(
        actual, ratio=np.where(accepted, -1.0, ratio), inputs=inputs, interval=interval
    )
    message = (
        f"{int(figures['wrong_elements'])} of {accepted.size} elements in "
        f"{int(figures['wrong_tokens'])} of {len(accepted)} tokens are outside; worst: {worst}"
    )
    return Finding(Outcome.FAIL, message, figures, worst, _evidence(ratio, inputs))


def require_sight(inputs: ExpertInputs, interval: Interval) -> None:
    """Raise VacuousCaseError if the interval would let a gross error pass."""
    unseen = blind_spot(examine_experts(inputs, interval))
    if unseen is not None:
        raise VacuousCaseError(f"{unseen} would pass")


def worst_element(
    actual: NDArray[np.float64],
    *,
    ratio: NDArray[np.float64],
    inputs: ExpertInputs,
    interval: Interval,
) -> WorstElement:
    """The element with the largest ratio."""
    token, column = (int(index) for index in np.unravel_index(np.argmax(ratio), ratio.shape))
    return WorstElement(
        token=token,
        column=column,
        experts=tuple(int(expert) for expert in inputs.topk_ids[token]),
        actual=float(actual[token, column]),
        lower=float(interval.lower[token, column]),
        upper=float(interval.upper[token, column]),
        ratio=float(ratio[token, column]),
    )


def _require_signal(interval: Interval, inputs: ExpertInputs) -> float:
    judged = ~interval.overflow
    if not judged.any():
        if interval.overflow.any():
            raise VacuousCaseError("every element may overflow; nothing is judged")
        return 1.0
    refused = ~interval.accepts(np.zeros_like(interval.centre)) & judged
    experts = inputs.gate_up_proj.shape[0]
    in_range = (inputs.topk_ids >= 0) & (inputs.topk_ids < experts)
    active = (in_range & (inputs.topk_weights != 0)).any(axis=1)
    if active.any() and not refused.any():
        raise VacuousCaseError("zeros would pass, though experts contribute")
    rows = active[:, None] & judged
    return float(refused[rows].mean()) if rows.any() else 1.0


def _evidence(ratio: NDArray[np.float64], inputs: ExpertInputs) -> dict[str, Any]:
    """Tokens per expert, and the largest error ratio in each cell of a coarse grid."""
    experts = inputs.gate_up_proj.shape[0]
    ids = inputs.topk_ids[(inputs.topk_ids >= 0) & (inputs.topk_ids < experts)]
    rows = np.array_split(np.arange(ratio.shape[0]), min(_MAP_ROWS, ratio.shape[0]))
    columns = np.array_split(np.arange(ratio.shape[1]), min(_MAP_COLUMNS, ratio.shape[1]))
    finite = np.nan_to_num(ratio, nan=1e9, posinf=1e9)
    grid = [[float(finite[np.ix_(r, c)].max()) for c in columns] for r in rows]
    return {
        "tokens_per_expert": np.bincount(ids, minlength=experts).tolist(),
        "error_ratio_map": grid,
        "shape": list(ratio.shape),
    }


ACCURACY = Check(
    name="accuracy",
    question="is every element inside the interval that a right implementation can land in?",
    applies=is_expert_case,
    missing=missing_for_experts,
    judge=with_error_sketch(judge_accuracy),
)
