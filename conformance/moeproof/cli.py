"""The command line, ``moeproof COMMAND``: errors become a line and an exit code.

Exit codes: 0 all right, 1 some verdict is FAIL or ERROR, 2 the command could not be carried out
as given, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from moeproof.commands import COMMANDS
from moeproof.devices import DeviceError
from moeproof.implementation import ImplementationError
from moeproof.report import ReportError
from moeproof.usage_error import UsageError

_NO_TORCH = (
    "torch is not installed in this Python; install the build for your GPU, or moeproof[cpu]"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit code. ``argv`` is without the program's name."""
    arguments = _parser().parse_args(argv)
    try:
        exit_code: int = arguments.carry_out(arguments)
    except (UsageError, ImplementationError, DeviceError, ReportError) as error:
        print(f"moeproof {arguments.command}: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as missing:
        if missing.name != "torch":
            raise
        print(f"moeproof {arguments.command}: error: {_NO_TORCH}", file=sys.stderr)
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
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
