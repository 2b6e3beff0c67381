"""``moeproof report``: render a ``report.jsonl`` again."""

from __future__ import annotations

import argparse
from pathlib import Path

from moeproof.commands.arguments import Commands
from moeproof.report import render_html, render_junit, write_whole
from moeproof.report_directory import ReportDirectory, read_report_at
from moeproof.usage_error import UsageError


def add_parser(commands: Commands) -> None:
    """``report``."""
    parser = commands.add_parser("report", help="render a report.jsonl again")
    parser.set_defaults(carry_out=report_command)
    parser.add_argument("source", metavar="DIR_OR_JSONL", type=Path)
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the page here")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write JUnit's XML here")


def report_command(arguments: argparse.Namespace) -> int:
    """Write the files asked for; with none asked for, both, beside the report."""
    source: Path = arguments.source
    directory = ReportDirectory(source if source.is_dir() else source.parent)
    report = read_report_at(source)
    html, junit = arguments.html, arguments.junit
    if html is None and junit is None:
        html, junit = directory.html, directory.junit
    for path, render in ((html, render_html), (junit, render_junit)):
        if path is not None:
            try:
                write_whole(path, render(report))
            except OSError as error:
                raise UsageError(f"{path}: cannot be written: {error}") from error
            print(path)
    return 0
