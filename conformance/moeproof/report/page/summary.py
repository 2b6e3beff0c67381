"""The run at a glance, and sums: by check, by reason, by time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from moeproof.report.report import Report, count_outcomes
from moeproof.verdict import Outcome, Verdict

_SLOWEST = 10


@dataclass(frozen=True)
class Glance:
    """What the run says of the implementation.

    Attributes:
        outcome: FAIL if anything failed or crashed, PASS if all that was judged passed,
            UNSUPPORTED if nothing was judged.
        headline: in a few words. explanation: in a sentence.
    """

    outcome: Outcome
    headline: str
    explanation: str


@dataclass(frozen=True)
class CheckSummary:
    """All verdicts of one check: how many of each outcome, and the time they took."""

    check: str
    question: str
    counts: Mapping[Outcome, int]
    verdicts: int
    seconds: float


def glance(report: Report) -> Glance:
    """The run in one sentence. UNSUPPORTED is never part of a success."""
    counts = report.footer.counts
    passed, unsupported = counts[Outcome.PASS], counts[Outcome.UNSUPPORTED]
    broken = counts[Outcome.FAIL] + counts[Outcome.ERROR]
    judged = passed + broken
    left_out = (
        f" {unsupported:,} more are unsupported: the implementation does not claim what they need."
        if unsupported
        else ""
    )
    if broken:
        return Glance(
            Outcome.FAIL,
            "Does not conform",
            f"{broken:,} of {judged:,} verdicts are a wrong answer or a crash.{left_out}",
        )
    unexplained = [each.dtype for each in report.footer.rounding if each.outcome is Outcome.FAIL]
    if unexplained:
        return Glance(
            Outcome.FAIL,
            "Does not conform",
            "Every case alone may be right, but no rounding profile explains all cases in "
            f"{' and '.join(unexplained)}.{left_out}",
        )
    if not passed:
        return Glance(Outcome.UNSUPPORTED, "Nothing was judged", f"No verdict is PASS.{left_out}")
    headline = "Conforms in all it claims" if unsupported else "Conforms"
    return Glance(Outcome.PASS, headline, f"All {judged:,} judged verdicts are PASS.{left_out}")


def check_summaries(report: Report) -> list[CheckSummary]:
    """One for each check, in the order in which they first appear."""
    by_check: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in report.verdicts:
        by_check[verdict.check].append(verdict)
    return [
        CheckSummary(
            check,
            report.header.questions[check],
            count_outcomes(verdicts),
            len(verdicts),
            sum(verdict.seconds for verdict in verdicts),
        )
        for check, verdicts in by_check.items()
    ]


def unsupported_reasons(report: Report) -> list[tuple[str, Counter[str]]]:
    """Why verdicts are UNSUPPORTED, the most frequent first, each with its number by check."""
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in report.verdicts:
        if verdict.outcome is Outcome.UNSUPPORTED:
            reasons[verdict.message][verdict.check] += 1
    return sorted(reasons.items(), key=lambda item: -item[1].total())


def slowest_cases(report: Report) -> list[tuple[str, float, list[Verdict]]]:
    """Case id, seconds and verdicts of the cases whose checks took longest together."""
    by_case: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in report.verdicts:
        by_case[verdict.case_id].append(verdict)
    cases = [
        (case_id, sum(verdict.seconds for verdict in verdicts), verdicts)
        for case_id, verdicts in by_case.items()
    ]
    return sorted(cases, key=lambda case: -case[1])[:_SLOWEST]
