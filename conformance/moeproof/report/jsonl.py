"""``report.jsonl``: written line by line while a run goes, read back whole or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import NoReturn, TextIO

from moeproof.planned_case import PlannedCase
from moeproof.report.lines import (
    Line,
    footer_from_line,
    footer_line,
    header_from_line,
    header_line,
    verdict_from_line,
    verdict_line,
)
from moeproof.report.metadata import RunMetadata
from moeproof.report.report import (
    SCHEMA_VERSION,
    Footer,
    Header,
    Pair,
    Report,
    ReportError,
    count_outcomes,
    plan_digest,
    planned_pairs,
)
from moeproof.report.schema import KINDS, violation
from moeproof.verdict import Outcome, Verdict


class ReportWriter:
    """Writes a run's verdicts as they come; the footer only if all of the plan was judged.

    A context manager. What is on disk after a crash is whole lines up to the last verdict, and
    no footer, so that :func:`read_report` calls it truncated.
    """

    def __init__(self, path: Path, metadata: RunMetadata, planned: Sequence[PlannedCase]) -> None:
        self._path = path
        self._due = set(planned_pairs(planned))
        self._counts = dict.fromkeys(Outcome, 0)
        self._header = Header(
            metadata=metadata,
            planned_cases=len({case_id for case_id, _ in self._due}),
            planned_verdicts=len(self._due),
            plan_digest=plan_digest(self._due),
            questions=_questions(self._due),
            started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def __enter__(self) -> ReportWriter:
        line = header_line(self._header)
        mistake = violation(json.loads(_dump(line)), "header")
        if mistake is not None:
            raise ReportError(f"{self._path}: the header does not fit the schema: {mistake}")
        self._started = time.perf_counter()
        self._file: TextIO = self._path.open("w", encoding="utf-8", newline="\n")
        self._write(line)
        return self

    def write(self, verdict: Verdict) -> None:
        """Append a verdict and flush it.

        Raises:
            ReportError: the verdict was not planned, or came twice.
        """
        pair = (verdict.case_id, verdict.check)
        if pair not in self._due:
            raise ReportError(
                f"check {pair[1]!r} of case {pair[0]!r} was not planned or came twice"
            )
        self._write(verdict_line(verdict))
        self._due.remove(pair)
        self._counts[verdict.outcome] += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is not None:
                return
            if self._due:
                case_id, check = min(self._due)
                raise ReportError(
                    f"{self._path}: {len(self._due)} planned verdicts are missing, the first is "
                    f"check {check!r} of case {case_id!r}"
                )
            seconds = time.perf_counter() - self._started
            self._write(footer_line(Footer(self._counts, sum(self._counts.values()), seconds)))

    def _write(self, line: Line) -> None:
        self._file.write(_dump(line) + "\n")
        self._file.flush()


def read_report(path: Path) -> Report:
    """The report in a file, with its lines checked against the schema, the plan and the sums.

    Raises:
        ReportError: the file is missing or unreadable; a line is not JSON or violates the schema;
            the footer is missing (a truncated run); the counts do not add up; a verdict is
            missing, doubled or was not planned. The message names the line.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from error
    lines = text.removesuffix("\n").split("\n") if text else []
    if not lines:
        raise ReportError(f"{path}: empty: truncated run")
    parsed = [_parse(path, number, line) for number, line in enumerate(lines, start=1)]
    _require_order(path, parsed)
    report = Report(
        header=header_from_line(parsed[0]),
        verdicts=tuple(verdict_from_line(line) for line in parsed[1:-1]),
        footer=footer_from_line(parsed[-1]),
    )
    _require_plan(path, report)
    return report


def _questions(pairs: Iterable[Pair]) -> dict[str, str]:
    # The checks need torch; reading and showing a report does not.
    from moeproof.checks import CHECKS

    return {check: CHECKS[check].question for check in sorted({check for _, check in pairs})}


def _dump(line: Line) -> str:
    # ASCII: a message may hold what UTF-8 cannot encode, such as a lone surrogate.
    return json.dumps(line, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _parse(path: Path, number: int, text: str) -> Line:
    try:
        line = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ReportError(f"{path}, line {number}: not JSON: {error}") from error
    kind = line.get("kind") if isinstance(line, dict) else None
    if kind not in KINDS:
        raise ReportError(f"{path}, line {number}: kind must be one of {KINDS}, got {kind!r}")
    if kind == "header" and line.get("schema_version") != SCHEMA_VERSION:
        raise ReportError(
            f"{path}, line {number}: schema_version {line.get('schema_version')!r}; this moeproof "
            f"reads version {SCHEMA_VERSION}"
        )
    mistake = violation(line, kind)
    if mistake is not None:
        raise ReportError(f"{path}, line {number}: {kind} violates the schema: {mistake}")
    return dict(line)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _require_order(path: Path, lines: Sequence[Line]) -> None:
    if lines[0]["kind"] != "header":
        raise ReportError(f"{path}, line 1: must be the header, is a {lines[0]['kind']}")
    if lines[-1]["kind"] != "footer" or len(lines) == 1:
        raise ReportError(f"{path}: truncated run: no footer after line {len(lines)}")
    for number, line in enumerate(lines[1:-1], start=2):
        if line["kind"] != "verdict":
            raise ReportError(f"{path}, line {number}: must be a verdict, is a {line['kind']}")


def _require_plan(path: Path, report: Report) -> None:
    header, footer = report.header, report.footer
    pairs = _distinct_pairs(path, report.verdicts)
    if len(pairs) != header.planned_verdicts:
        raise ReportError(
            f"{path}: {header.planned_verdicts} verdicts were planned, {len(pairs)} are there"
        )
    if plan_digest(pairs) != header.plan_digest:
        raise ReportError(f"{path}: the verdicts are not those that were planned: digest differs")
    cases = len({case_id for case_id, _ in pairs})
    if cases != header.planned_cases:
        raise ReportError(f"{path}: {header.planned_cases} cases were planned, {cases} are there")
    if {check for _, check in pairs} != set(header.questions):
        raise ReportError(f"{path}, line 1: questions must name the checks of the verdicts")
    counts = count_outcomes(report.verdicts)
    if footer.counts != counts or footer.verdicts != len(report.verdicts):
        raise ReportError(
            f"{path}: the footer counts {footer.verdicts} verdicts, {_named(footer.counts)}; "
            f"the lines hold {len(report.verdicts)}, {_named(counts)}"
        )


def _distinct_pairs(path: Path, verdicts: Iterable[Verdict]) -> set[Pair]:
    pairs: set[Pair] = set()
    for number, verdict in enumerate(verdicts, start=2):
        pair = (verdict.case_id, verdict.check)
        if pair in pairs:
            raise ReportError(
                f"{path}, line {number}: doubled: check {pair[1]!r} of case {pair[0]!r}"
            )
        pairs.add(pair)
    return pairs


def _named(counts: Mapping[Outcome, int]) -> str:
    return ", ".join(f"{outcome.value} {counts[outcome]}" for outcome in Outcome)
