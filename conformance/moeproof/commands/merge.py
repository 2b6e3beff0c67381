"""``moeproof merge``: the shards of a run, joined to one report."""

from __future__ import annotations

import argparse
from pathlib import Path

from moeproof.commands.arguments import Commands
from moeproof.commands.judging import exit_code
from moeproof.console import print_summary
from moeproof.report import merge_reports
from moeproof.report_directory import ReportDirectory, read_report_at
from moeproof.usage_error import UsageError


def add_parser(commands: Commands) -> None:
    """``merge``."""
    parser = commands.add_parser("merge", help="join the shards of a run to one report")
    parser.set_defaults(carry_out=merge_command)
    parser.add_argument(
        "shards",
        metavar="DIR_OR_JSONL",
        type=Path,
        nargs="+",
        help="the reports of all shards, in any order",
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        required=True,
        help="write report.jsonl, index.html and junit.xml of the whole run into this folder",
    )


def merge_command(arguments: argparse.Namespace) -> int:
    """Join, write, print the summary; the exit code is that of the whole run."""
    sources: list[Path] = arguments.shards
    twice = [source for source in sources if sources.count(source) > 1]
    if twice:
        raise UsageError(f"{twice[0]} is given twice")
    merged = merge_reports({str(source): read_report_at(source) for source in sources})
    with ReportDirectory.claimed(arguments.report) as directory:
        _require_free(directory, sources)
        directory.write(merged)
    print_summary(merged.verdicts, seconds=merged.footer.seconds)
    print(f"report: {directory.html}")
    return exit_code(merged.verdicts)


def _require_free(directory: ReportDirectory, sources: list[Path]) -> None:
    """Neither a shard nor a run that was cut is overwritten."""
    for source in sources:
        file = ReportDirectory(source).jsonl if source.is_dir() else source
        if directory.jsonl.exists() and file.samefile(directory.jsonl):
            raise UsageError(f"--report {directory.path}: holds {source}, one of the shards")
    if directory.partial.exists():
        raise UsageError(f"--report {directory.path}: holds a run that was cut; use another folder")
