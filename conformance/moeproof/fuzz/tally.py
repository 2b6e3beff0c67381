"""What a hunt counts and what it finds."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from moeproof.verdict import Verdict
from moeproof.worker_messages import Subject


@dataclass(frozen=True, order=True)
class ClosestCall:
    """The largest error:bound among right answers of one dtype, and the case it was seen on."""

    error_ratio: float
    case_id: str


@dataclass
class Tally:
    """Counts of cases, each of which is one of judged, unsupported and vacuous.

    Attributes:
        judged: at least one check said PASS, FAIL or ERROR, and the case could tell right from
            wrong.
        unsupported: the implementation claims none of what the case needs.
        vacuous: zeros would have passed; says nothing about the implementation.
        verdicts: of all checks, UNSUPPORTED left out.
        shrinking: further calls, made to find a smaller failing case.
        closest: dtype -> the closest call.
        seconds: time since the implementation was ready.
    """

    judged: int = 0
    unsupported: int = 0
    vacuous: int = 0
    verdicts: int = 0
    shrinking: int = 0
    closest: dict[str, ClosestCall] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def cases_per_second(self) -> float:
        """Judged cases."""
        return self.judged / self.seconds if self.seconds else 0.0

    def came_close(self, dtype: str, call: ClosestCall) -> None:
        """Keep the call if it is the closest of its dtype."""
        self.closest[dtype] = max(call, self.closest.get(dtype, call))

    def __add__(self, other: Tally) -> Tally:
        """Counts of two hunts that went on at the same time."""
        both = Tally(
            self.judged + other.judged,
            self.unsupported + other.unsupported,
            self.vacuous + other.vacuous,
            self.verdicts + other.verdicts,
            self.shrinking + other.shrinking,
            dict(self.closest),
            max(self.seconds, other.seconds),
        )
        for dtype, call in other.closest.items():
            both.came_close(dtype, call)
        return both


@dataclass(frozen=True)
class Failure:
    """A failing case, as small as the time allowed.

    Attributes:
        verdict: of the check that failed, on the smallest case.
        found_as: id of the case that failed first.
        only_after: ids of cases that a fresh process must judge before, for this one to fail;
            None if it did not fail again whatever came before.
    """

    verdict: Verdict
    found_as: str
    only_after: tuple[str, ...] | None = ()

    def reproducer(self, subject: Subject) -> str:
        """The command that shows the failure again."""
        if not self.only_after:
            return subject.reproducer(self.verdict.case_id, self.verdict.check)
        case_ids = shlex.join((*self.only_after, self.verdict.case_id))
        return (
            f"moeproof run -n 1 --implementation {shlex.quote(subject.implementation)} "
            f"--device {subject.device} --case {case_ids}"
        )
