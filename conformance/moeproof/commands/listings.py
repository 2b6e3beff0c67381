"""``moeproof list``: what there is to choose from, one name a line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from moeproof.commands.arguments import Commands, add_device
from moeproof.implementation import adapter_names
from moeproof.routing_pattern import routing_patterns
from moeproof.usage_error import UsageError

Row = tuple[str, str]


def add_parser(commands: Commands) -> None:
    """``list``."""
    parser = commands.add_parser("list", help="what there is to choose from")
    parser.set_defaults(carry_out=list_command)
    parser.add_argument("what", nargs="?", choices=sorted(LISTINGS))
    parser.add_argument("profile", metavar="PROFILE", nargs="?", help="only with cases")
    add_device(parser)


def list_command(arguments: argparse.Namespace) -> int:
    """Print names, each with what it stands for; without a choice, all but the cases."""
    if (arguments.what == "cases") != (arguments.profile is not None):
        raise UsageError("a PROFILE is needed after 'cases' and allowed only there")
    if arguments.what is not None:
        _print(LISTINGS[arguments.what](arguments))
        return 0
    for what, listing in LISTINGS.items():
        if what != "cases":
            print(f"{what}:")
            _print(listing(arguments))
            print()
    return 0


def _print(listing: Iterable[Row]) -> None:
    rows = list(listing)
    width = max((len(name) for name, _ in rows), default=0)
    for name, meaning in rows:
        print(f"{name:<{width}}  {meaning}".rstrip())


def _implementations(arguments: argparse.Namespace) -> Iterable[Row]:
    return ((name, "") for name in adapter_names())


def _profiles(arguments: argparse.Namespace) -> Iterable[Row]:
    from moeproof.profiles import PROFILES

    return ((profile.name, profile.summary) for profile in PROFILES.values())


def _patterns(arguments: argparse.Namespace) -> Iterable[Row]:
    for pattern in routing_patterns().values():
        meets = f" (meets: {', '.join(pattern.meets)})" if pattern.meets else ""
        yield pattern.name, f"{pattern.summary}{meets}"


def _checks(arguments: argparse.Namespace) -> Iterable[Row]:
    from moeproof.checks import CHECKS

    for check in CHECKS.values():
        yield check.name, f"{check.question} [{', '.join(sorted(check.devices))}]"


def _models(arguments: argparse.Namespace) -> Iterable[Row]:
    from moeproof.model_shapes import model_shapes

    for name, shape in model_shapes().items():
        yield (
            name,
            f"H {shape.hidden_size}, I {shape.intermediate_size}, E {shape.num_experts}, "
            f"K {shape.top_k}, {shape.dtype}, {shape.scoring} routing",
        )


def _faults(arguments: argparse.Namespace) -> Iterable[Row]:
    from moeproof.faults import FAULTS

    for fault in FAULTS.values():
        seen = f" ({', '.join(fault.stands_for)})" if fault.stands_for else ""
        yield fault.name, f"{fault.summary}{seen} [{fault.kind}]"


def _cases(arguments: argparse.Namespace) -> Iterable[Row]:
    from moeproof.profiles import plan

    try:
        planned = plan(arguments.profile, arguments.device)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return ((case.case.case_id, ", ".join(case.checks)) for case in planned)


LISTINGS: dict[str, Callable[[argparse.Namespace], Iterable[Row]]] = {
    "implementations": _implementations,
    "profiles": _profiles,
    "patterns": _patterns,
    "checks": _checks,
    "models": _models,
    "faults": _faults,
    "cases": _cases,
}
