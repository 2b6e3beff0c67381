"""One case, one check, one implementation: the verdict. Every way into the suite ends here."""

from __future__ import annotations

import time
import traceback

import numpy as np

from moeproof.case import Case
from moeproof.case_id import AnyCase
from moeproof.checks import CHECKS, Check
from moeproof.devices import Device
from moeproof.implementation import Implementation
from moeproof.trial import ContractError, RouterTrial, Trial
from moeproof.verdict import Finding, Outcome, Verdict

_NOT_ITS_OWN = frozenset({"functools", "moeproof", "torch", "triton"})
"""Modules whose lines say little about where an implementation went wrong.

functools computes what a trial keeps.
"""


def checks_for(case: AnyCase, device_name: str) -> list[str]:
    """Names of the checks that make sense for a case on a device, in order."""
    return [
        check.name
        for check in CHECKS.values()
        if device_name in check.devices and check.applies(case)
    ]


def make_trial(
    case: AnyCase, implementation: Implementation, device: Device
) -> Trial | RouterTrial:
    """The trial that a case's checks share."""
    if isinstance(case, Case):
        return Trial(case, implementation, device)
    return RouterTrial(case, implementation, device)


def judge(trial: Trial | RouterTrial, check_name: str) -> Verdict:
    """The verdict of one check on a trial.

    FAIL: the answer is wrong, or is no answer by the contract. ERROR: the implementation raised,
    or the case cannot tell. UNSUPPORTED: it does not claim what the case needs.
    """
    check = CHECKS[check_name]
    started = time.perf_counter()
    finding = _find(trial, check)
    case = trial.case
    return Verdict(
        case_id=case.case_id,
        check=check_name,
        outcome=finding.outcome,
        message=finding.message,
        figures=finding.figures,
        worst=finding.worst,
        evidence=finding.evidence,
        seconds=time.perf_counter() - started,
        reproducer=(
            f"moeproof replay '{case.case_id}' --check {check_name} "
            f"--implementation {trial.implementation.name}"
        ),
    )


def _find(trial: Trial | RouterTrial, check: Check) -> Finding:
    try:
        if isinstance(trial, RouterTrial) and trial.implementation.route is None:
            return Finding(Outcome.UNSUPPORTED, "route is not offered")
        missing = check.missing(trial.case, trial.implementation.capabilities)
        if missing is not None:
            return Finding(Outcome.UNSUPPORTED, missing)
        with np.errstate(invalid="ignore"):  # unwritten memory may hold signalling NaN
            return check.judge(trial)
    except ContractError as violation:
        return Finding(Outcome.FAIL, str(violation))
    except Exception as error:
        return Finding(Outcome.ERROR, f"{type(error).__name__}: {error} ({_place(error)})")


def _place(error: Exception) -> str:
    """File and line where the implementation raised, or where it called what did."""
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [
        (frame, line)
        for frame, line in frames
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _NOT_ITS_OWN
    ]
    frame, line = (own or frames)[-1]
    return f"{frame.f_code.co_filename}:{line}"
