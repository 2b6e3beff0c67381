"""The outcome of one check on one case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Outcome(str, Enum):
    """What a check said. UNSUPPORTED is declared by the adapter and never counts as PASS."""

    PASS = "PASS"
    FAIL = "FAIL"
    ERROR = "ERROR"
    UNSUPPORTED = "UNSUPPORTED"


@dataclass(frozen=True)
class WorstElement:
    """The element of the output that is farthest out of its interval.

    Attributes:
        token: row of the output. column: column of the output.
        experts: ids of the token's slots, in slot order.
        actual: the value returned. lower, upper: the interval of right values.
        ratio: error over bound; above 1 is wrong.
    """

    token: int
    column: int
    experts: tuple[int, ...]
    actual: float
    lower: float
    upper: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"token {self.token}, column {self.column}, experts {list(self.experts)}: got "
            f"{self.actual:.9g}, allowed [{self.lower:.9g}, {self.upper:.9g}], "
            f"error:bound {self.ratio:.3g}"
        )


@dataclass(frozen=True)
class Finding:
    """What a check found, before it is put beside its case.

    Attributes:
        outcome: PASS or FAIL.
        message: one sentence for people; empty for PASS.
        figures: numbers worth comparing between runs, such as ``max_error_ratio``.
        worst: the worst element, where the check judges elements.
        evidence: data for the plots of a failure and for comparing runs.
    """

    outcome: Outcome
    message: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    worst: WorstElement | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """One line of a report: a case, a check, and what came of it.

    Attributes:
        case_id, check: what was judged.
        outcome, message, figures, worst, evidence: as in :class:`Finding`; ERROR carries the
            exception or the way the process died, UNSUPPORTED the capability that is missing.
        seconds: time that the check took.
        reproducer: the command that judges the same again.
    """

    case_id: str
    check: str
    outcome: Outcome
    message: str
    figures: Mapping[str, float]
    worst: WorstElement | None
    evidence: Mapping[str, Any]
    seconds: float
    reproducer: str
