"""The failures as the page shows them: grouped by check, the easiest to debug first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from moeproof.report.page.evidence import ExpertLoad, HeatMap, expert_load, heat_map
from moeproof.report.page.traits import Judged
from moeproof.report.report import Pair
from moeproof.verdict import Verdict

_DETAILED = 20
"""Failures of a check that are shown in full; drawings of thousands would fill many megabytes."""
_MESSAGE, _SHORT_MESSAGE = 4000, 300


@dataclass(frozen=True)
class Failure:
    """One verdict that is FAIL or ERROR.

    Attributes:
        anchor: its place on the page.
        message: the verdict's, its middle left out if it is very long, without the worst element
            where that is shown beside it.
        heat_map, expert_load: drawings, where the verdict has the evidence.
    """

    anchor: str
    verdict: Verdict
    message: str
    heat_map: HeatMap | None = None
    expert_load: ExpertLoad | None = None


@dataclass(frozen=True)
class FailureGroup:
    """The failures of one check, those of small problems first.

    Attributes:
        detailed: the first ones, with drawings. listed: the others, one line each.
    """

    check: str
    detailed: tuple[Failure, ...]
    listed: tuple[Failure, ...]

    @property
    def total(self) -> int:
        """All failures of the check."""
        return len(self.detailed) + len(self.listed)


def failure_groups(judged: Sequence[Judged]) -> list[FailureGroup]:
    """All failures, in groups in the order in which checks first failed."""
    broken = [item for item in judged if item.broken]
    checks = list(dict.fromkeys(item.verdict.check for item in broken))
    broken.sort(key=lambda item: (checks.index(item.verdict.check), item.traits.work))
    groups = []
    number = 0
    for check, items in groupby(broken, key=lambda item: item.verdict.check):
        verdicts = [item.verdict for item in items]
        anchors = [f"failure-{number + offset}" for offset in range(1, len(verdicts) + 1)]
        number += len(verdicts)
        failures = list(zip(anchors, verdicts, strict=True))
        groups.append(
            FailureGroup(
                check,
                detailed=tuple(_detailed(*failure) for failure in failures[:_DETAILED]),
                listed=tuple(_listed(*failure) for failure in failures[_DETAILED:]),
            )
        )
    return groups


def anchors_of(groups: Sequence[FailureGroup]) -> dict[Pair, str]:
    """Where the page shows each failure."""
    return {
        (failure.verdict.case_id, failure.verdict.check): failure.anchor
        for group in groups
        for failure in (*group.detailed, *group.listed)
    }


def _detailed(anchor: str, verdict: Verdict) -> Failure:
    return Failure(
        anchor,
        verdict,
        _shortened(verdict.message.removesuffix(f"; worst: {verdict.worst}"), _MESSAGE),
        heat_map(verdict.evidence, verdict.worst),
        expert_load(verdict.evidence, verdict.worst),
    )


def _listed(anchor: str, verdict: Verdict) -> Failure:
    return Failure(anchor, verdict, _shortened(verdict.message, _SHORT_MESSAGE))


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    left_out = len(text) - limit
    return f"{text[:head]} [... {left_out:,} characters, see report.jsonl ...] {text[-tail:]}"
