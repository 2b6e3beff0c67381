"""Is there a rounding profile, the declared one if any, that explains every element?

One interval for all profiles must allow for every rounding that some implementation makes. Under
a single profile it is much narrower, so an implementation that fits none of them makes a rounding
that none makes: it truncates, accumulates in 16 bits, or reads what it should not.
:mod:`moeproof.rounding_conclusion` asks the same of all cases together.
"""

from __future__ import annotations

import numpy as np

from moeproof.case import Case
from moeproof.case_id import AnyCase
from moeproof.checks.accuracy import worst_element
from moeproof.checks.check import Check, missing_for_experts
from moeproof.number_format import FP32
from moeproof.oracle import R_LIMIT, Nearest
from moeproof.trial import Trial
from moeproof.verdict import Finding, Outcome, WorstElement


def judge_rounding(trial: Trial) -> Finding:
    """Judge the output by the declared profile, or else by every candidate.

    Figures: ``surviving_profiles``. Evidence: ``dtype``, ``declared`` (a profile's name, or None)
    and ``surviving`` (names, the tightest first).
    """
    survives = trial.inference.surviving(trial.output)
    fitting = [profile for profile, fits in zip(trial.candidates, survives, strict=True) if fits]
    surviving = [profile.name for profile in sorted(fitting, key=lambda each: each.looseness)]
    figures = {"surviving_profiles": float(len(surviving))}
    evidence = {
        "dtype": trial.case.problem.dtype,
        "declared": None if trial.declared is None else trial.declared.name,
        "surviving": surviving,
    }
    if surviving:
        return Finding(Outcome.PASS, figures=figures, evidence=evidence)
    nearest = trial.inference.nearest(trial.output)
    worst, misfit = _misfit(trial, nearest)
    if trial.declared is None:
        message = f"no rounding profile fits; under the nearest, {nearest.profile.name}, {misfit}"
    else:
        message = f"the declared rounding profile does not fit: {misfit}"
    return Finding(Outcome.FAIL, message, figures, worst, evidence)


def _misfit(trial: Trial, nearest: Nearest) -> tuple[WorstElement | None, str]:
    actual = trial.output.astype(np.float64)
    accepted = nearest.interval.accepts(actual)
    if accepted.all():
        return None, (
            f"errors are {nearest.r_statistic:.3g} times as large as random rounding makes them "
            f"(allowed {R_LIMIT})"
        )
    ratio = np.where(accepted, -1.0, nearest.interval.error_ratio(actual))
    worst = worst_element(actual, ratio=ratio, inputs=trial.inputs, interval=nearest.interval)
    wrong = int((~accepted).sum())
    return worst, f"{wrong} of {accepted.size} elements are outside; worst: {worst}"


def _applies(case: AnyCase) -> bool:
    return (
        isinstance(case, Case)
        and case.values.has_independent_signs
        and case.problem.format != FP32
        and case.problem.num_tokens > 0
    )


ROUNDING = Check(
    name="rounding",
    question="is there a rounding profile, the declared one if any, that explains every element?",
    applies=_applies,
    missing=missing_for_experts,
    judge=judge_rounding,
)
