"""Shards joined to the report of the whole plan, or refused."""

from __future__ import annotations

from collections.abc import Mapping

from moeproof.report.identity import deciding_differences, joined
from moeproof.report.report import (
    Footer,
    Header,
    Report,
    ReportError,
    Shard,
    plan_digest,
)


def merge_reports(shards: Mapping[str, Report]) -> Report:
    """The report of the whole plan, its verdicts in the order of the shards.

    Args:
        shards: where each report was read, for messages, and the report.

    Raises:
        ReportError: a report is no shard; it is one of another plan, or of a run with another
            implementation, device, suite or version; a shard is missing or doubled.
    """
    parts = _by_index(shards)
    reports = [report for _, report in parts.values()]
    whole = _shard_of(reports[0])
    verdicts = tuple(verdict for report in reports for verdict in report.verdicts)
    pairs = {(verdict.case_id, verdict.check) for verdict in verdicts}
    if len(pairs) != whole.whole_verdicts or plan_digest(pairs) != whole.whole_digest:
        raise ReportError(
            f"the shards hold {len(pairs)} verdicts, which are not the {whole.whole_verdicts} of "
            "the whole plan"
        )
    questions = {
        check: question for report in reports for check, question in report.header.questions.items()
    }
    header = Header(
        metadata=joined([report.metadata for report in reports]),
        planned_cases=len({case_id for case_id, _ in pairs}),
        planned_verdicts=whole.whole_verdicts,
        plan_digest=whole.whole_digest,
        questions=questions,
        started_at=min(report.header.started_at for report in reports),
    )
    seconds = sum(report.footer.seconds for report in reports)
    return Report(header, verdicts, Footer.of(verdicts, seconds=seconds))


def _by_index(shards: Mapping[str, Report]) -> dict[int, tuple[str, Report]]:
    """Every shard of one run, from the first to the last."""
    if not shards:
        raise ReportError("no report to merge")
    parts: dict[int, tuple[str, Report]] = {}
    first_name, first = next(iter(shards.items()))
    for name, report in shards.items():
        shard = report.header.shard
        if shard is None:
            raise ReportError(f"{name}: is no shard, but the report of a whole plan")
        _require_same_run(name, report, first_name, first)
        if shard.index in parts:
            doubled = parts[shard.index][0]
            raise ReportError(f"{name}: shard {_named(shard)} is doubled, {doubled} is it too")
        parts[shard.index] = (name, report)
    count = _shard_of(first).count
    missing = sorted(set(range(1, count + 1)) - set(parts))
    if missing:
        names = ", ".join(f"{index}/{count}" for index in missing)
        raise ReportError(f"shards are missing: {names}")
    return dict(sorted(parts.items()))


def _require_same_run(name: str, report: Report, first_name: str, first: Report) -> None:
    found = [str(item) for item in deciding_differences(first.metadata, report.metadata)]
    here, there = _shard_of(report), _shard_of(first)
    if here.count != there.count:
        found.append(f"number of shards: {there.count} and {here.count}")
    if here.whole_digest != there.whole_digest:
        found.append(f"plan: {there.whole_digest} and {here.whole_digest}")
    if found:
        raise ReportError(f"{first_name} and {name} are not of one run; {'; '.join(found)}")


def _shard_of(report: Report) -> Shard:
    assert report.header.shard is not None
    return report.header.shard


def _named(shard: Shard) -> str:
    return f"{shard.index}/{shard.count}"
