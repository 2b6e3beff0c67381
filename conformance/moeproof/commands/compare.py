"""``moeproof compare``: are two reports of one class?"""

from __future__ import annotations

import argparse
from pathlib import Path

from moeproof.commands.arguments import Commands
from moeproof.report import write_whole
from moeproof.report.comparison import (
    Comparison,
    compare_reports,
    render_comparison_html,
    render_comparison_markdown,
)
from moeproof.report.comparison.markdown import name_of
from moeproof.report_directory import read_report_at
from moeproof.usage_error import UsageError


def add_parser(commands: Commands) -> None:
    """``compare``."""
    parser = commands.add_parser(
        "compare", help="are two reports of one class? exit codes: 0 yes, 1 no, 2 not comparable"
    )
    parser.set_defaults(carry_out=compare_command)
    for name in ("first", "second"):
        parser.add_argument(name, metavar="DIR_OR_JSONL", type=Path)
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page with plots here")
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="write a summary for a pull request here"
    )


def compare_command(arguments: argparse.Namespace) -> int:
    """Print what differs, write the files asked for; 0 if nothing that counts does, else 1."""
    comparison = compare_reports(*map(read_report_at, (arguments.first, arguments.second)))
    _print(comparison)
    for path, render in (
        (arguments.html, render_comparison_html),
        (arguments.markdown, render_comparison_markdown),
    ):
        if path is not None:
            try:
                write_whole(path, render(comparison))
            except OSError as error:
                raise UsageError(f"{path}: cannot be written: {error}") from error
            print(path)
    return 0 if comparison.is_one_class else 1


def _print(comparison: Comparison) -> None:
    print(f"A: {name_of(comparison.first)}\nB: {name_of(comparison.second)}")
    for difference in comparison.metadata_differences:
        print(f"  {difference}")
    for group in comparison.dtypes:
        note = "" if group.is_judged else ", shown only"
        print(
            f"  {group.name}: RMS of B's errors over A's {group.errors.ratio}, bias "
            f"{group.errors.first_bias:+.3f} and {group.errors.second_bias:+.3f}, equal bits "
            f"{group.equal_bits:.1%}{note}"
        )
    print(comparison.extent)
    print(comparison.headline)
    for finding in comparison.findings:
        print(f"  {finding}")
