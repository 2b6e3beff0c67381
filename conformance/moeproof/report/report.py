"""A run's report as a value: what was run, every verdict, and the sums."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from moeproof.planned_case import PlannedCase
from moeproof.report.metadata import RunMetadata
from moeproof.rounding_conclusion import RoundingConclusion, conclude
from moeproof.verdict import Outcome, Verdict

SCHEMA_VERSION = 1

Pair = tuple[str, str]
"""A case id and the name of a check: what one verdict is about."""


class ReportError(ValueError):
    """A report is missing, truncated, damaged, or not what was planned."""


@dataclass(frozen=True)
class Shard:
    """Which part of a larger plan was judged: part ``index`` (from 1) of ``count``.

    Attributes:
        index, count: the part.
        whole_verdicts, whole_digest: how many verdicts the whole plan asks for, and
            :func:`plan_digest` of them all.
    """

    index: int
    count: int
    whole_verdicts: int
    whole_digest: str


@dataclass(frozen=True)
class Header:
    """The first line: what is going to follow.

    Attributes:
        metadata: what the run was made with.
        planned_cases, planned_verdicts: how many.
        plan_digest: :func:`plan_digest` of the planned pairs. Two runs with the same digest
            judged the same cases by the same checks.
        questions: planned check -> what its PASS answers with yes.
        started_at: ISO 8601, in UTC.
        shard: which part of a larger plan this is, or None for all of it.
    """

    metadata: RunMetadata
    planned_cases: int
    planned_verdicts: int
    plan_digest: str
    questions: Mapping[str, str]
    started_at: str
    shard: Shard | None = None


@dataclass(frozen=True)
class Footer:
    """The last line, written by a run that came to its end.

    Attributes:
        counts: verdicts of each outcome.
        verdicts: their sum.
        seconds: wall time of the run; of its last part if it was resumed, of all shards together
            if it was merged.
        rounding: what all cases together say of the rounding profile, for each dtype.
    """

    counts: Mapping[Outcome, int]
    verdicts: int
    seconds: float
    rounding: tuple[RoundingConclusion, ...]

    @classmethod
    def of(cls, verdicts: Sequence[Verdict], *, seconds: float) -> Footer:
        """The sums of all of a run's verdicts."""
        return cls(count_outcomes(verdicts), len(verdicts), seconds, conclude(verdicts))


@dataclass(frozen=True)
class Report:
    """A whole run: the file holds exactly the planned verdicts, and the sums are right."""

    header: Header
    verdicts: tuple[Verdict, ...]
    footer: Footer

    @property
    def metadata(self) -> RunMetadata:
        """What the run was made with."""
        return self.header.metadata


def planned_pairs(planned: Sequence[PlannedCase]) -> frozenset[Pair]:
    """The verdicts that a plan asks for. Raises ReportError if it asks for one twice."""
    pairs = Counter((item.case.case_id, check) for item in planned for check in item.checks)
    for (case_id, check), times in pairs.items():
        if times > 1:
            raise ReportError(f"check {check!r} of case {case_id!r} is planned {times} times")
    return frozenset(pairs)


def plan_digest(pairs: Collection[Pair]) -> str:
    """sha256, in hexadecimal, of a set of pairs, whatever their order."""
    lines = sorted(f"{case_id}\t{check}\n" for case_id, check in pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def count_outcomes(verdicts: Sequence[Verdict]) -> dict[Outcome, int]:
    """How many verdicts of each outcome, zeros included."""
    counts = dict.fromkeys(Outcome, 0)
    for verdict in verdicts:
        counts[verdict.outcome] += 1
    return counts
