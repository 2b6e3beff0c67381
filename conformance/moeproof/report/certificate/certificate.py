"""What a whole run of the must-pass list says: certified, with waivers, or not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from moeproof.report.certificate.waivers import Waiver
from moeproof.report.report import Report
from moeproof.verdict import Outcome, Verdict


class Result(str, Enum):
    """The sum of a certification."""

    CERTIFIED = "CERTIFIED"
    WITH_WAIVERS = "CERTIFIED WITH WAIVERS"
    NOT_CERTIFIED = "NOT CERTIFIED"


@dataclass(frozen=True)
class Certificate:
    """A report of the must-pass list beside its waivers.

    Attributes:
        report: of the whole list.
        waivers: what is accepted though it is not PASS.
        waived: verdicts that are not PASS and are covered, each with its waiver.
        refused: verdicts that are not PASS and are not covered: FAIL, ERROR and UNSUPPORTED
            alike, and conclusions on the rounding of all cases together.
    """

    report: Report
    waivers: tuple[Waiver, ...]
    waived: tuple[tuple[Verdict, Waiver], ...]
    refused: tuple[Verdict, ...]

    @property
    def result(self) -> Result:
        """NOT CERTIFIED if anything is refused; what is waived is said."""
        if self.refused:
            return Result.NOT_CERTIFIED
        return Result.WITH_WAIVERS if self.waived else Result.CERTIFIED

    def refused_groups(self) -> list[str]:
        """What is refused, by check, outcome and message: how many, and the first."""
        groups: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
        for verdict in self.refused:
            groups[verdict.check, verdict.outcome.value, verdict.message].append(verdict)
        return [
            f"{check}: {len(group):,} {outcome}, first {group[0].case_id}: {message}"
            for (check, outcome, message), group in sorted(groups.items())
        ]


def certify(report: Report, waivers: Sequence[Waiver]) -> Certificate:
    """The certificate of a report. A verdict is passed by PASS alone."""
    conclusions = [conclusion.as_verdict() for conclusion in report.footer.rounding]
    waived, refused = [], []
    for verdict in (*report.verdicts, *conclusions):
        if verdict.outcome is Outcome.PASS:
            continue
        for waiver in waivers:
            if waiver.covers(verdict.case_id, verdict.check):
                waived.append((verdict, waiver))
                break
        else:
            refused.append(verdict)
    return Certificate(report, tuple(waivers), tuple(waived), tuple(refused))


def outcomes_of(verdicts: Sequence[Verdict]) -> str:
    """Such as ``3 UNSUPPORTED, 1 FAIL``."""
    counts = Counter(verdict.outcome.value for verdict in verdicts)
    return ", ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common())
