"""``moeproof targets``: compile an implementation for GPUs that are not here."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path

from moeproof.architectures import ARCHITECTURES
from moeproof.commands.arguments import Commands, add_workers, positive
from moeproof.number_format import STORAGE_FORMATS
from moeproof.report_directory import ReportDirectory
from moeproof.targets.compilation import compile_targets
from moeproof.targets.report import TargetsReport
from moeproof.targets.table import print_report


def add_parser(commands: Commands) -> None:
    """``targets``."""
    parser = commands.add_parser(
        "targets", help="compile an implementation's Triton kernels for GPUs that are not here"
    )
    parser.set_defaults(carry_out=targets_command)
    parser.add_argument(
        "--implementation",
        metavar="REF",
        default="moe_dispatch",
        help="an adapter's name, module:attribute or path/to/file.py:attribute "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--target",
        dest="targets",
        metavar="NAME",
        nargs="+",
        choices=ARCHITECTURES,
        default=list(ARCHITECTURES),
        help=f"default: all of {', '.join(ARCHITECTURES)}",
    )
    parser.add_argument(
        "--dtype",
        dest="dtypes",
        metavar="NAME",
        nargs="+",
        choices=STORAGE_FORMATS,
        default=list(STORAGE_FORMATS),
        help=f"default: those of {', '.join(STORAGE_FORMATS)} that the implementation claims",
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        help="write targets.jsonl and targets.html into this folder",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive(float),
        default=600.0,
        help="the longest that one call may take, what it compiles included (default: %(default)g)",
    )
    add_workers(parser)


def targets_command(arguments: argparse.Namespace) -> int:
    """Compile, print the table, write the report; 1 if a rule is violated or a call failed."""
    with ExitStack() as stack:
        directory = None
        if arguments.report is not None:
            directory = stack.enter_context(ReportDirectory.claimed(arguments.report))
        report = _compile(arguments)
        print_report(report)
        if directory is not None:
            directory.write_targets(report)
            print(f"report: {directory.targets_html}")
    return 0 if report.passed else 1


def _compile(arguments: argparse.Namespace) -> TargetsReport:
    """The report, its targets in the order in which they were asked for."""
    targets, dtypes = (
        tuple(dict.fromkeys(arguments.targets)),
        tuple(dict.fromkeys(arguments.dtypes)),
    )
    started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    started = time.monotonic()
    compiled = {}
    for result in compile_targets(
        arguments.implementation,
        targets=targets,
        dtypes=dtypes,
        workers=arguments.workers,
        timeout_seconds=arguments.timeout,
        tell=partial(print, flush=True),
    ):
        compiled[result.target] = result
        seconds = time.monotonic() - started
        print(f"{result.target}: {len(result.kernels)} kernels after {seconds:.0f} s", flush=True)
    first = compiled[targets[0]]
    return TargetsReport(
        implementation=arguments.implementation,
        implementation_version=first.implementation_version,
        triton=first.triton,
        suite_version=version("moeproof"),
        targets=targets,
        dtypes=dtypes,
        started_at=started_at,
        seconds=time.monotonic() - started,
        kernels=tuple(facts for target in targets for facts in compiled[target].kernels),
        failed_calls=tuple(call for target in targets for call in compiled[target].failed_calls),
    )
