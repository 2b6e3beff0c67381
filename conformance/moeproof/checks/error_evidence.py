"""Beside a verdict on an output: the sketch of its errors that two runs are compared by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps

import numpy as np

from moeproof.error_sketch import ErrorSketch, sketch_output, sums_of_z
from moeproof.oracle import UNDECLARED, expert_interval
from moeproof.trial import Trial
from moeproof.verdict import Finding

ERRORS = "errors"
"""The sketch's name in a verdict's evidence."""


def with_error_sketch(judge: Callable[[Trial], Finding]) -> Callable[[Trial], Finding]:
    """The same judge, whose findings carry an :class:`moeproof.error_sketch.ErrorSketch`."""

    @wraps(judge)
    def judge_and_sketch(trial: Trial) -> Finding:
        finding = judge(trial)
        evidence = {**finding.evidence, ERRORS: error_sketch(trial).to_evidence()}
        return replace(finding, evidence=evidence)

    return judge_and_sketch


def error_sketch(trial: Trial) -> ErrorSketch:
    """The sketch of a trial's output; sums of z only for values with independent random signs."""
    sketch = sketch_output(trial.output, error_ratio=trial.interval.error_ratio(trial.output))
    if not trial.case.values.has_independent_signs:
        return sketch
    scale = expert_interval(
        trial.inputs, dtype=trial.case.problem.dtype, independent_signs=True, profile=UNDECLARED
    )
    counted = ~scale.overflow & (scale.bound > 0)
    deviation = np.sqrt(np.where(counted, scale.variance, 1.0))
    z = (trial.output.astype(np.float64) - scale.emulated) / deviation
    counts, squares, signed = sums_of_z(z, sign=np.sign(scale.emulated), counted=counted)
    return replace(sketch, counts=counts, squares=squares, signed=signed)
