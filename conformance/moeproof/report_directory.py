"""The folder of a report: three files of ours, and whatever else a user keeps there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moeproof.report import read_report, render_html, render_junit, write_whole
from moeproof.usage_error import UsageError


@dataclass(frozen=True)
class ReportDirectory:
    """A folder with ``report.jsonl``, ``index.html`` and ``junit.xml``."""

    path: Path

    @property
    def jsonl(self) -> Path:
        """One line for each verdict, written while the run goes."""
        return self.path / "report.jsonl"

    @property
    def html(self) -> Path:
        """The page for people."""
        return self.path / "index.html"

    @property
    def junit(self) -> Path:
        """The file for continuous integration."""
        return self.path / "junit.xml"

    @classmethod
    def create(cls, path: Path) -> ReportDirectory:
        """The folder, made if need be. Raises UsageError if that cannot be."""
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    def clear(self) -> None:
        """Remove an earlier run's report. Raises UsageError if that cannot be."""
        with _writing(self.path):
            self.html.unlink(missing_ok=True)
            self.junit.unlink(missing_ok=True)
            self.jsonl.write_text("")

    def render(self) -> None:
        """Write the page and JUnit's file from ``report.jsonl``."""
        report = read_report(self.jsonl)
        write_whole(self.html, render_html(report))
        write_whole(self.junit, render_junit(report))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"--report {path}: cannot be written: {error}") from error
