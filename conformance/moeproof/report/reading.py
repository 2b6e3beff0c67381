"""``report.jsonl`` read back: whole or not at all, or as far as a run that was cut has come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from moeproof.report.lines import Line, footer_from_line, header_from_line, verdict_from_line
from moeproof.report.report import (
    SCHEMA_VERSION,
    Footer,
    Header,
    Pair,
    Report,
    ReportError,
    count_outcomes,
    plan_digest,
)
from moeproof.report.schema import KINDS, violation
from moeproof.rounding_conclusion import conclude
from moeproof.verdict import Outcome, Verdict


def read_report(path: Path) -> Report:
    """The report in a file, with its lines checked against the schema, the plan and the sums.

    Raises:
        ReportError: the file is missing or unreadable; a line is not JSON or violates the schema;
            the footer is missing (a truncated run); the counts do not add up; a verdict is
            missing, doubled or was not planned. The message names the line.
    """
    try:
        return parse_report(path.read_bytes(), path)
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error}") from error


def parse_report(content: bytes, path: Path) -> Report:
    """As :func:`read_report`, of a file's content; the path is for messages."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ReportError(f"{path}: cannot be read: {error}") from error
    lines = text.removesuffix("\n").split("\n") if text else []
    if not lines:
        raise ReportError(f"{path}: empty: truncated run")
    parsed = [_parse(path, number, line) for number, line in enumerate(lines, start=1)]
    _require_header(path, parsed)
    if parsed[-1]["kind"] != "footer" or len(parsed) == 1:
        raise ReportError(f"{path}: truncated run: no footer after line {len(parsed)}")
    _require_verdicts(path, parsed[1:-1])
    report = Report(
        header=header_from_line(parsed[0]),
        verdicts=tuple(verdict_from_line(line) for line in parsed[1:-1]),
        footer=footer_from_line(parsed[-1]),
    )
    _require_plan(path, report)
    return report


@dataclass(frozen=True)
class CutReport:
    """What a run that was cut has left: whole lines, and perhaps all of them.

    Attributes:
        header: of the run.
        verdicts: those that were written whole.
        size: of the whole lines, in bytes; what follows in the file is half a line.
        footer: None unless the run was cut after its last line.
    """

    header: Header
    verdicts: tuple[Verdict, ...]
    size: int
    footer: Footer | None


def read_cut_report(path: Path) -> CutReport | None:
    """What a run that may have been cut anywhere has left, or None if not even a header.

    Raises:
        ReportError: the file cannot be read, or its whole lines are not such a run's.
    """
    try:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.decode("utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: cannot be read: {error}") from error
    if not lines:
        return None
    parsed = [_parse(path, number, line) for number, line in enumerate(lines, start=1)]
    _require_header(path, parsed)
    footer = footer_from_line(parsed.pop()) if parsed[-1]["kind"] == "footer" else None
    _require_verdicts(path, parsed[1:])
    verdicts = tuple(verdict_from_line(line) for line in parsed[1:])
    _distinct_pairs(path, verdicts)
    return CutReport(header_from_line(parsed[0]), verdicts, len(whole), footer)


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


def _require_header(path: Path, lines: Sequence[Line]) -> None:
    if lines[0]["kind"] != "header":
        raise ReportError(f"{path}, line 1: must be the header, is a {lines[0]['kind']}")


def _require_verdicts(path: Path, lines: Sequence[Line]) -> None:
    for number, line in enumerate(lines, start=2):
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
    if footer.rounding != conclude(report.verdicts):
        raise ReportError(
            f"{path}: the footer's conclusions on rounding do not follow from the verdicts"
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
