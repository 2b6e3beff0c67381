"""``moeproof fuzz``: look for a case that fails, and make it small."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from moeproof.commands.arguments import Commands, add_placed_workers, add_subject, positive
from moeproof.console import print_warnings
from moeproof.usage_error import UsageError
from moeproof.worker_messages import Subject
from moeproof.worker_places import WorkerPlaces

_PROFILES = ("pr", "nightly", "debug")


def add_parser(commands: Commands) -> None:
    """``fuzz``."""
    parser = commands.add_parser("fuzz", help="draw cases until one fails, and make it small")
    parser.set_defaults(carry_out=fuzz_command)
    add_subject(parser)
    parser.add_argument(
        "--minutes",
        metavar="M",
        type=positive(float),
        default=10.0,
        help="time to draw cases in; a failure may shrink beyond it (default: %(default)g)",
    )
    parser.add_argument(
        "--profile", choices=_PROFILES, default="pr", help="how hard to look (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=_seed, help="draw what this seed drew before (default: random)"
    )
    parser.add_argument(
        "--database",
        metavar="DIR",
        type=Path,
        help="keep failures here, in the format of fixtures/regressions, and look at those first",
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        help="write fuzz.json into this folder, and the failures if there is no --database",
    )
    add_placed_workers(parser)


def fuzz_command(arguments: argparse.Namespace) -> int:
    """Fuzz, show, keep, and sum up in an exit code."""
    from moeproof.fuzz.fuzzer import fuzz
    from moeproof.fuzz.hunt import HuntPlan
    from moeproof.fuzz.profile import FUZZ_PROFILES
    from moeproof.fuzz.record import keep_failures, write_summary
    from moeproof.fuzz.text import FuzzProgress, describe_result
    from moeproof.regressions import read_regressions

    report = _folder("--report", arguments.report)
    database = _folder("--database", arguments.database)
    try:
        known = read_regressions(database) if database is not None else {}
    except ValueError as error:
        raise UsageError(f"--database: {error}") from error
    plan = HuntPlan(
        subject=Subject(arguments.implementation, arguments.device, arguments.timeout),
        profile=FUZZ_PROFILES[arguments.profile],
        seconds=arguments.minutes * 60.0,
        seed=secrets.randbits(32) if arguments.seed is None else arguments.seed,
        kept=tuple(dict.fromkeys(regression.case_id for regression in known.values())),
        breadcrumb=report and report / "under_way.txt",
    )
    print(f"profile {plan.profile.name}, seed {plan.seed}, {arguments.minutes:g} minutes")
    places = WorkerPlaces.on(arguments.device, arguments.workers)
    print_warnings(places.warnings)
    result = fuzz(plan, places=places, watch=FuzzProgress(plan).watch)
    print(describe_result(result, plan))
    keep_in = database or (report and report / "regressions")
    if keep_in is not None:
        for path in keep_failures(result, plan.subject, keep_in):
            print(f"kept: {path}")
    if report is not None:
        write_summary(result, plan, report / "fuzz.json")
        print(f"report: {report / 'fuzz.json'}")
    if result.failures:
        return 1
    if not result.tally.judged:
        raise UsageError(
            f"nothing was judged: {result.tally.unsupported} cases need what the implementation "
            f"does not claim, {result.tally.vacuous} were vacuous"
        )
    return 0


def _folder(option: str, path: Path | None) -> Path | None:
    if path is not None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{option} {path}: cannot be written: {error}") from error
    return path


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 2**40:
        raise argparse.ArgumentTypeError(f"must be in [0, 2**40), got {text}")
    return seed
