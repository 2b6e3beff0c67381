"""``report.jsonl``: written line by line while a run goes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from moeproof.planned_case import PlannedCase
from moeproof.report.lines import Line, footer_line, header_line, verdict_line
from moeproof.report.metadata import RunMetadata
from moeproof.report.reading import CutReport
from moeproof.report.report import (
    Footer,
    Header,
    Pair,
    Report,
    ReportError,
    Shard,
    plan_digest,
    planned_pairs,
)
from moeproof.report.schema import violation
from moeproof.verdict import Verdict


class ReportWriter:
    """Writes a run's verdicts as they come; the footer only if all of the plan was judged.

    A context manager. What is on disk after a crash is whole lines up to the last verdict, and
    no footer, so that :func:`moeproof.report.read_report` calls it truncated.

    Args:
        path: the file, written anew unless ``earlier`` is given.
        metadata: of the run.
        planned: all that this report is going to hold.
        shard: which part of a larger plan ``planned`` is.
        earlier: what a run that was cut left in the file, fit for this one; it is gone on with.
    """

    def __init__(
        self,
        path: Path,
        metadata: RunMetadata,
        planned: Sequence[PlannedCase],
        *,
        shard: Shard | None = None,
        earlier: CutReport | None = None,
    ) -> None:
        self._path = path
        self._earlier = earlier
        self._due = set(planned_pairs(planned))
        self._judged: list[Verdict] = []
        self._header = Header(
            metadata=metadata,
            planned_cases=len({case_id for case_id, _ in self._due}),
            planned_verdicts=len(self._due),
            plan_digest=plan_digest(self._due),
            questions=_questions(self._due),
            started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            shard=shard,
        )
        for verdict in earlier.verdicts if earlier else ():
            self._due.remove((verdict.case_id, verdict.check))
            self._judged.append(verdict)

    def __enter__(self) -> ReportWriter:
        line = header_line(self._header)
        mistake = violation(json.loads(_dump(line)), "header")
        if mistake is not None:
            raise ReportError(f"{self._path}: the header does not fit the schema: {mistake}")
        self._started = time.perf_counter()
        with self._writing(), ExitStack() as stack:
            mode = "wb" if self._earlier is None else "ab"
            # Without a buffer: what is written is there, whatever becomes of this process.
            self._file: IO[Any] = stack.enter_context(self._path.open(mode, buffering=0))
            if self._earlier is None:
                self._write(line)
            else:
                self._file.truncate(self._earlier.size)
            stack.pop_all()
        return self

    def write(self, verdict: Verdict) -> None:
        """Append a verdict.

        Raises:
            ReportError: the verdict was not planned, or came twice, or cannot be written.
        """
        pair = (verdict.case_id, verdict.check)
        if pair not in self._due:
            raise ReportError(
                f"check {pair[1]!r} of case {pair[0]!r} was not planned or came twice"
            )
        self._write(verdict_line(verdict))
        self._due.remove(pair)
        self._judged.append(verdict)

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
            self._write(footer_line(Footer.of(self._judged, seconds=seconds)))
            with self._writing():
                os.fsync(self._file.fileno())

    def _write(self, line: Line) -> None:
        rest = memoryview(f"{_dump(line)}\n".encode())
        with self._writing():
            while rest:
                rest = rest[self._file.write(rest) :]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ReportError(f"{self._path}: cannot be written: {error}") from error


def report_text(report: Report) -> str:
    """The report's lines, each with its end: what :func:`moeproof.report.read_report` reads."""
    lines = [header_line(report.header), *map(verdict_line, report.verdicts)]
    lines.append(footer_line(report.footer))
    return "".join(f"{_dump(line)}\n" for line in lines)


def _questions(pairs: Iterable[Pair]) -> dict[str, str]:
    # The checks need torch; reading and showing a report does not.
    from moeproof.checks import CHECKS

    return {check: CHECKS[check].question for check in sorted({check for _, check in pairs})}


def _dump(line: Line) -> str:
    # ASCII: a message may hold what UTF-8 cannot encode, such as a lone surrogate.
    return json.dumps(line, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
