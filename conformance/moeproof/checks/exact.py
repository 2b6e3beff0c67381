"""Where every rounding is exact: is the output equal bit for bit to the exact result?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.case import Case, ValueFamily
from moeproof.case_id import AnyCase
from moeproof.checks.accuracy import require_sight, worst_element
from moeproof.checks.check import Check, missing_for_experts
from moeproof.digests import bits_of, input_digest, output_digest
from moeproof.frozen_vectors import FrozenVector, frozen_vectors
from moeproof.oracle import Interval
from moeproof.oracle.rounding import round_to_nearest
from moeproof.trial import Trial
from moeproof.verdict import Finding, Outcome

Float64Array = NDArray[np.float64]

_QUANTA = 256.0  # exact results are multiples of its reciprocal


class InexactCaseError(Exception):
    """The case's exact result is no number of the output's format: the case itself is wrong."""


class OtherInputsError(Exception):
    """This machine generates other inputs than those whose answer is frozen."""


def judge_exact(trial: Trial) -> Finding:
    """Compare with the exact result, rounded once; +0 and -0 are equal.

    Where the case's answer is frozen (:mod:`moeproof.frozen_vectors`), that is what every vendor's
    output is compared with; elsewhere it is the oracle's. Figures: ``wrong_elements``. Evidence:
    ``output_digest``, by which the outputs of two runs are compared bit for bit.

    Raises:
        InexactCaseError: the exact result of a family without rounding would have to be rounded.
        OtherInputsError: the inputs are not the frozen ones.
        VacuousCaseError: a grossly wrong output would pass as well.
    """
    expected = _expected(trial)
    bits = bits_of(trial.output)
    actual = trial.output.astype(np.float64)
    wrong = ~(actual == expected)
    figures = {"wrong_elements": float(wrong.sum())}
    evidence: dict[str, Any] = {"output_digest": output_digest(bits)}
    if not wrong.any():
        require_sight(trial.inputs, exact_interval(trial))
        return Finding(Outcome.PASS, figures=figures, evidence=evidence)
    distance = np.where(wrong, np.nan_to_num(np.abs(actual - expected), nan=np.inf), -1.0)
    worst = worst_element(actual, ratio=distance, inputs=trial.inputs, interval=trial.interval)
    message = (
        f"{int(wrong.sum())} of {wrong.size} elements differ from the exact result; token "
        f"{worst.token}, column {worst.column}, experts {list(worst.experts)}: got "
        f"{worst.actual:.9g}, exact {expected[worst.token, worst.column]:.9g}"
    )
    return Finding(Outcome.FAIL, message, figures, worst, evidence)


def exact_interval(trial: Trial) -> Interval:
    """The interval that holds the exact result and nothing else."""
    expected = _expected(trial)
    judged_everywhere = np.zeros(expected.shape, dtype=bool)
    return replace(trial.interval, lower=expected, upper=expected, overflow=judged_everywhere)


def _expected(trial: Trial) -> Float64Array:
    """The exact result (T, H), rounded once."""
    vector = frozen_vectors().get(trial.case.case_id)
    if vector is not None:
        return _frozen(trial, vector)
    # Gates of -110 and below are exactly -0 in float32 but about -1e-46 in float64.
    exact = np.rint(trial.interval.centre * _QUANTA) / _QUANTA
    expected = round_to_nearest(exact, trial.case.problem.format)
    if trial.case.values is not ValueFamily.EXACT_ROUNDED and (expected != exact).any():
        raise InexactCaseError("the exact result is not a number of the output's format")
    return expected


def _frozen(trial: Trial, vector: FrozenVector) -> Float64Array:
    digest = input_digest(trial.inputs.arrays())
    if digest != vector.input_digest:
        raise OtherInputsError(
            f"this machine generates other inputs than the frozen ones of {vector.name}: sha256 "
            f"{digest}, frozen {vector.input_digest}"
        )
    stored = trial.case.problem.format.numpy_dtype
    return np.asarray(vector.output_bits().view(stored).astype(np.float64))


def _applies(case: AnyCase) -> bool:
    return isinstance(case, Case) and case.values.is_exact


EXACT = Check(
    name="exact",
    question="is the output equal bit for bit where every rounding is exact?",
    applies=_applies,
    missing=missing_for_experts,
    judge=judge_exact,
)
