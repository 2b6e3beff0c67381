"""The folder of a report: three files of ours, and whatever else a user keeps there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moeproof.report import (
    CutReport,
    Report,
    ReportError,
    read_cut_report,
    read_report,
    render_html,
    render_junit,
    report_text,
    write_whole,
)
from moeproof.report.fault_matrix import FaultMatrix, read_fault_matrix, write_fault_matrix
from moeproof.report.fault_page import render_fault_page
from moeproof.report.folder_lock import LockError, folder_lock
from moeproof.targets.report import TargetsReport, render_targets, targets_text
from moeproof.usage_error import UsageError


@dataclass(frozen=True)
class ReportDirectory:
    """A folder with ``report.jsonl``, ``index.html`` and ``junit.xml``.

    While a run goes, its verdicts are in ``report.partial.jsonl``; the three files are put in
    place when it is done. Until then an earlier run's are still there.
    """

    path: Path

    @property
    def jsonl(self) -> Path:
        """One line for each verdict."""
        return self.path / "report.jsonl"

    @property
    def partial(self) -> Path:
        """The same, while it is being written, or of a run that was cut."""
        return self.path / "report.partial.jsonl"

    @property
    def html(self) -> Path:
        """The page for people."""
        return self.path / "index.html"

    @property
    def junit(self) -> Path:
        """The file for continuous integration."""
        return self.path / "junit.xml"

    @property
    def targets_html(self) -> Path:
        """The page of ``moeproof targets``, which goes beside the others."""
        return self.path / "targets.html"

    @property
    def targets_jsonl(self) -> Path:
        """The same, one line for each kernel."""
        return self.path / "targets.jsonl"

    @property
    def faults_html(self) -> Path:
        """The page of ``moeproof faults``; its matrix is a section of a run's page, too."""
        return self.path / "faults.html"

    @property
    def faults_jsonl(self) -> Path:
        """The same, one line for each fault."""
        return self.path / "faults.jsonl"

    @classmethod
    @contextmanager
    def claimed(cls, path: Path) -> Iterator[ReportDirectory]:
        """The folder, made if need be, and nobody else's until the context ends.

        Raises:
            UsageError: it cannot be made or written, or another run is writing there.
        """
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
        try:
            with folder_lock(path):
                yield cls(path)
        except LockError as error:
            raise UsageError(f"--report {path}: {error}") from error

    def read(self) -> Report:
        """The report in the folder.

        Raises:
            ReportError: there is none, it is damaged, or a later run was cut or is under way.
        """
        if self.partial.exists():
            raise ReportError(
                f"{self.partial}: truncated: this run was cut or is still going; end it with "
                "moeproof run --resume, or name the file of an earlier report"
            )
        return read_report(self.jsonl)

    def read_last(self) -> CutReport | None:
        """What the last run left, whole or not; None if there was none.

        Raises:
            ReportError: its file is damaged.
        """
        if self.partial.exists() or not self.jsonl.exists():
            return read_cut_report(self.partial)
        report = read_report(self.jsonl)
        return CutReport(report.header, report.verdicts, self.jsonl.stat().st_size, report.footer)

    def publish(self) -> None:
        """Put the run in ``report.partial.jsonl`` in place of an earlier one, with its pages.

        What was done already is done again, so that it may be cut anywhere.
        """
        source = self.partial if self.partial.exists() else self.jsonl
        report = read_report(source)
        with _writing(self.path):
            self._write_pages(report)
            source.replace(self.jsonl)

    def write(self, report: Report) -> None:
        """Write a report that is whole already."""
        with _writing(self.path):
            write_whole(self.jsonl, report_text(report))
            self._write_pages(report)

    def write_targets(self, report: TargetsReport) -> None:
        """Write what was compiled, and link it from the page of a run that is there already."""
        with _writing(self.path):
            write_whole(self.targets_jsonl, targets_text(report))
            write_whole(self.targets_html, render_targets(report))
            if self.jsonl.exists() and not self.partial.exists():
                self._write_pages(read_report(self.jsonl))

    def write_faults(self, matrix: FaultMatrix) -> None:
        """Write what caught the planted faults, and show it on the page of a run that is there."""
        with _writing(self.path):
            write_fault_matrix(self.faults_jsonl, matrix)
            write_whole(self.faults_html, render_fault_page(matrix))
            if self.jsonl.exists() and not self.partial.exists():
                self._write_pages(read_report(self.jsonl))

    def remove_report(self) -> None:
        """Remove our three files."""
        with _writing(self.path):
            for path in (self.jsonl, self.html, self.junit):
                path.unlink(missing_ok=True)

    def _write_pages(self, report: Report) -> None:
        targets = self.targets_html.name if self.targets_html.exists() else None
        faults = read_fault_matrix(self.faults_jsonl) if self.faults_jsonl.exists() else None
        write_whole(self.html, render_html(report, targets_page=targets, faults=faults))
        write_whole(self.junit, render_junit(report))


def read_report_at(path: Path) -> Report:
    """The report in a folder or file. Raises ReportError as :meth:`ReportDirectory.read`."""
    return ReportDirectory(path).read() if path.is_dir() else read_report(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"--report {path}: cannot be written: {error}") from error
