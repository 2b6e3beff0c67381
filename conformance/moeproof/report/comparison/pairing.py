"""The verdicts of two reports in pairs, or the reason why the reports cannot be compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from moeproof.error_sketch import ErrorSketch
from moeproof.report.page.traits import Traits, read_traits
from moeproof.report.report import Pair, Report, ReportError
from moeproof.verdict import Outcome, Verdict

_JUDGED = frozenset({Outcome.PASS, Outcome.FAIL})


@dataclass(frozen=True)
class VerdictPair:
    """What two runs said of one check of one case."""

    first: Verdict
    second: Verdict

    @property
    def case_id(self) -> str:
        """The case."""
        return self.first.case_id

    @property
    def check(self) -> str:
        """The check."""
        return self.first.check

    @cached_property
    def traits(self) -> Traits:
        """What the case id says."""
        return read_traits(self.case_id)

    def trait(self, name: str) -> str:
        """One of the traits, such as ``dtype``; empty where the case has none of that name."""
        return self.traits.named.get(name, "")

    @property
    def is_exact(self) -> bool:
        """Right outputs are equal bit for bit."""
        return self.trait("values").startswith("exact")

    @cached_property
    def sketches(self) -> tuple[ErrorSketch, ErrorSketch] | None:
        """Both outputs' sketches, where both were judged and the check keeps one.

        Raises:
            ReportError: only one is there, or one is damaged, or they are of different inputs.
        """
        both = (self.first, self.second)
        if not all(verdict.outcome in _JUDGED for verdict in both):
            return None
        found = [verdict.evidence.get("errors") for verdict in both]
        if found == [None, None]:
            return None
        try:
            first, second = (ErrorSketch.from_evidence(sketch or {}) for sketch in found)
        except ValueError as error:
            raise ReportError(f"check {self.check!r} of case {self.case_id!r}: {error}") from error
        if first.counts != second.counts or len(first.sample) != len(second.sample):
            raise ReportError(
                f"check {self.check!r} of case {self.case_id!r}: the error sketches are of "
                "different inputs"
            )
        return first, second


def pair_reports(first: Report, second: Report) -> list[VerdictPair]:
    """The verdicts of both, in the first's order.

    Raises:
        ReportError: the reports are of different suites, cases or checks, or nothing was judged
            in both; the message names what differs.
    """
    for field in ("suite_version", "suite_hash"):
        values = [getattr(report.metadata, field) for report in (first, second)]
        if values[0] != values[1]:
            raise ReportError(
                f"the reports are of different suites: {field} is {values[0]} and {values[1]}"
            )
    left, right = _by_pair(first), _by_pair(second)
    _require_same(left, right)
    pairs = [VerdictPair(verdict, right[pair]) for pair, verdict in left.items()]
    if not any({pair.first.outcome, pair.second.outcome} <= _JUDGED for pair in pairs):
        raise ReportError("nothing was judged in both reports")
    return pairs


def _by_pair(report: Report) -> dict[Pair, Verdict]:
    return {(verdict.case_id, verdict.check): verdict for verdict in report.verdicts}


def _require_same(left: dict[Pair, Verdict], right: dict[Pair, Verdict]) -> None:
    alone = [(name, a.keys() - b.keys()) for name, a, b in (("A", left, right), ("B", right, left))]
    found = []
    for name, pairs in alone:
        if pairs:
            case_id, check = min(pairs)
            found.append(f"{len(pairs)} verdicts only in {name}, such as {check} of {case_id}")
    if found:
        raise ReportError(f"the reports are of different cases or checks: {'; '.join(found)}")
