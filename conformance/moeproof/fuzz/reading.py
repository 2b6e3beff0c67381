"""What verdicts say to a fuzzer: whose trouble it is, of what kind, and how close it came."""

from __future__ import annotations

import math
import re

from moeproof.case_id import AnyCase
from moeproof.checks.accuracy import VacuousCaseError
from moeproof.judge import checks_for
from moeproof.verdict import Outcome, Verdict

# It depends on the dtype alone, and the other profiles ask it of each.
_LEFT_OUT = "rejects"
_RATIO = "max_error_ratio"


def is_bad(verdict: Verdict) -> bool:
    """Whether a verdict speaks against the implementation."""
    return verdict.outcome in (Outcome.FAIL, Outcome.ERROR) and not is_vacuous(verdict)


def is_vacuous(verdict: Verdict) -> bool:
    """Whether the case could not tell: an ERROR, but not the implementation's."""
    return verdict.outcome is Outcome.ERROR and verdict.message.startswith(
        f"{VacuousCaseError.__name__}: "
    )


def planned_checks(case: AnyCase, device: str) -> tuple[str, ...]:
    """The checks that a hunt judges a case by."""
    return tuple(name for name in checks_for(case, device) if name != _LEFT_OUT)


def bad_verdict(verdicts: list[Verdict]) -> Verdict | None:
    """The first that speaks against the implementation."""
    return next(filter(is_bad, verdicts), None)


def passing_ratio(verdict: Verdict) -> float | None:
    """The error:bound of a PASS, where there is a bound to speak of."""
    ratio = verdict.figures.get(_RATIO)
    passed = verdict.outcome is Outcome.PASS and ratio is not None and math.isfinite(ratio)
    return ratio if passed else None


def same_kind(verdict: Verdict, other: Verdict) -> bool:
    """Whether two bad verdicts are of one check and one kind of trouble."""
    return (
        is_bad(verdict)
        and (verdict.check, verdict.outcome) == (other.check, other.outcome)
        and _trouble(verdict) == _trouble(other)
    )


def _trouble(verdict: Verdict) -> str:
    """Of an ERROR the exception's type or the way the process died; a FAIL is a FAIL."""
    if verdict.outcome is Outcome.FAIL:
        return ""
    return re.split(r"[:;]| at ", verdict.message)[0]
