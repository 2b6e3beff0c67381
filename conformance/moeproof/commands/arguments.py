"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

from moeproof.devices import DEVICE_NAMES
from moeproof.worker_places import Workers

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_subject(parser: argparse.ArgumentParser) -> None:
    """What is judged, where, and for how long at most."""
    parser.add_argument(
        "--implementation",
        metavar="REF",
        required=True,
        help="an adapter's name, module:attribute or path/to/file.py:attribute",
    )
    add_device(parser)
    add_timeout(parser)


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """How long a check of a case may take."""
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive(float),
        default=120.0,
        help="the longest that one check of one case may take (default: %(default)g)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where the implementation runs."""
    parser.add_argument(
        "--device", choices=DEVICE_NAMES, default="cpu", help="default: %(default)s"
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """How many processes work at a time, each on a core."""
    parser.add_argument(
        "-n",
        dest="workers",
        metavar="WORKERS",
        type=positive(int),
        default=2,
        help="worker processes (default: %(default)s)",
    )


def add_placed_workers(parser: argparse.ArgumentParser) -> None:
    """How many processes judge at a time, each on a GPU if the device is one."""
    parser.add_argument(
        "-n",
        dest="workers",
        metavar="WORKERS",
        type=_workers,
        default=2,
        help="worker processes; more than GPUs share them; auto: one a GPU, or one a core where "
        "there is no GPU (default: %(default)s)",
    )


def _workers(text: str) -> Workers:
    if text == "auto":
        return "auto"
    try:
        return int(positive(int)(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number or auto, got {text!r}") from error


def positive(number: type[int] | type[float]) -> Callable[[str], int | float]:
    """A parser of positive numbers for argparse."""

    def parse(text: str) -> int | float:
        value = number(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be positive, got {text}")
        return value

    parse.__name__ = f"positive {number.__name__}"
    return parse
