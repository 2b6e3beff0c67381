"""The command line: ``moeproof run | replay | list | report``.

Exit codes: 0 all right, 1 some verdict is FAIL or ERROR, 2 the command could not be carried out
as given, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from moeproof.cli_list import LISTINGS, list_command
from moeproof.cli_report import report_command
from moeproof.cli_run import replay_command, run_command
from moeproof.devices import DEVICE_NAMES, DeviceError
from moeproof.implementation import ImplementationError
from moeproof.report import ReportError
from moeproof.usage_error import UsageError

_IMPLEMENTATION_HELP = "an adapter's name, module:attribute or path/to/file.py:attribute"


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit code. ``argv`` is without the program's name."""
    arguments = _parser().parse_args(argv)
    try:
        exit_code: int = arguments.carry_out(arguments)
    except (UsageError, ImplementationError, DeviceError, ReportError) as error:
        print(f"moeproof {arguments.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"moeproof {arguments.command}: interrupted", file=sys.stderr)
        return 130
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moeproof", description="A conformance suite for fused Mixture-of-Experts kernels."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="judge an implementation by a profile's cases"))
    _add_replay(commands.add_parser("replay", help="judge one case again and tell all about it"))
    _add_list(commands.add_parser("list", help="what there is to choose from"))
    _add_report(commands.add_parser("report", help="render a report.jsonl again"))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(carry_out=run_command)
    _add_subject(parser)
    cases = parser.add_mutually_exclusive_group()
    cases.add_argument(
        "--profile", metavar="NAME", help="see moeproof list profiles (default: quick)"
    )
    cases.add_argument(
        "--case",
        dest="cases",
        metavar="CASE_ID",
        nargs="+",
        action="extend",
        help="judge these cases instead of a profile's",
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        help="write report.jsonl, index.html and junit.xml into this folder",
    )
    parser.add_argument(
        "-n",
        dest="workers",
        metavar="WORKERS",
        type=_positive(int),
        default=2,
        help="worker processes (default: %(default)s)",
    )


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(carry_out=replay_command)
    parser.add_argument("case_id", metavar="CASE_ID")
    _add_subject(parser)
    parser.add_argument(
        "--check", metavar="NAME", help="only this check (default: all that apply to the case)"
    )


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(carry_out=list_command)
    parser.add_argument("what", nargs="?", choices=sorted(LISTINGS))
    parser.add_argument("profile", metavar="PROFILE", nargs="?", help="only with cases")
    _add_device(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(carry_out=report_command)
    parser.add_argument("source", metavar="DIR_OR_JSONL", type=Path)
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the page here")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write JUnit's XML here")


def _add_subject(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--implementation", metavar="REF", required=True, help=_IMPLEMENTATION_HELP)
    _add_device(parser)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_positive(float),
        default=120.0,
        help="the longest that one check of one case may take (default: %(default)g)",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=DEVICE_NAMES, default="cpu", help="default: %(default)s"
    )


def _positive(number: type[int] | type[float]):  # type: ignore[no-untyped-def]
    """A parser of positive numbers for argparse."""

    def parse(text: str) -> float:
        value = number(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be positive, got {text}")
        return value

    parse.__name__ = f"positive {number.__name__}"
    return parse


if __name__ == "__main__":
    sys.exit(main())
