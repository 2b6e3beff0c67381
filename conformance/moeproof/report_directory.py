"""The folder of a report: three files of ours, and whatever else a user keeps there."""

from __future__ import annotations

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
    def prepare(cls, path: Path) -> ReportDirectory:
        """Create the folder if need be, and clear it of an earlier run's report.

        Raises:
            UsageError: the folder cannot be created or written.
        """
        directory = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            directory.html.unlink(missing_ok=True)
            directory.junit.unlink(missing_ok=True)
            directory.jsonl.write_text("")
        except OSError as error:
            raise UsageError(f"--report {path}: cannot be written: {error}") from error
        return directory

    def render(self) -> None:
        """Write the page and JUnit's file from ``report.jsonl``."""
        report = read_report(self.jsonl)
        write_whole(self.html, render_html(report))
        write_whole(self.junit, render_junit(report))
