"""Where every rounding is exact: is the output equal bit for bit to the exact result?"""

from __future__ import annotations

import numpy as np

from moeproof.case import Case, ValueFamily
from moeproof.case_id import AnyCase
from moeproof.checks.accuracy import worst_element
from moeproof.checks.check import Check, missing_for_experts
from moeproof.oracle.rounding import round_to_nearest
from moeproof.trial import Trial
from moeproof.verdict import Finding, Outcome

_QUANTA = 256.0  # exact results are multiples of its reciprocal


class InexactCaseError(Exception):
    """The case's exact result is no number of the output's format: the case itself is wrong."""


def judge_exact(trial: Trial) -> Finding:
    """Compare with the exact result, rounded once; +0 and -0 are equal.

    Raises:
        InexactCaseError: the exact result of a family without rounding would have to be rounded.
    """
    # Gates of -110 and below are exactly -0 in float32 but about -1e-46 in float64.
    exact = np.rint(trial.interval.centre * _QUANTA) / _QUANTA
    expected = round_to_nearest(exact, trial.case.problem.format)
    if trial.case.values is not ValueFamily.EXACT_ROUNDED and (expected != exact).any():
        raise InexactCaseError("the exact result is not a number of the output's format")
    actual = trial.output.astype(np.float64)
    wrong = ~(actual == expected)
    figures = {"wrong_elements": float(wrong.sum())}
    if not wrong.any():
        return Finding(Outcome.PASS, figures=figures)
    distance = np.where(wrong, np.nan_to_num(np.abs(actual - expected), nan=np.inf), -1.0)
    worst = worst_element(actual, ratio=distance, inputs=trial.inputs, interval=trial.interval)
    message = (
        f"{int(wrong.sum())} of {wrong.size} elements differ from the exact result; token "
        f"{worst.token}, column {worst.column}, experts {list(worst.experts)}: got "
        f"{worst.actual:.9g}, exact {expected[worst.token, worst.column]:.9g}"
    )
    return Finding(Outcome.FAIL, message, figures, worst)


def _applies(case: AnyCase) -> bool:
    return isinstance(case, Case) and case.values.is_exact


EXACT = Check(
    name="exact",
    question="is the output equal bit for bit where every rounding is exact?",
    applies=_applies,
    missing=missing_for_experts,
    judge=judge_exact,
)
