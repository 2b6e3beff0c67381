"""``moeproof run`` and ``moeproof replay``: judge, show, and sum up in an exit code."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from moeproof.case_id import parse_case_id
from moeproof.commands.arguments import Commands, add_placed_workers, add_subject
from moeproof.commands.judging import Recording, exit_code, judge_plan
from moeproof.console import print_summary
from moeproof.planned_case import PlannedCase
from moeproof.replay_text import describe_case, describe_verdict
from moeproof.report import ShardChoice
from moeproof.report_directory import ReportDirectory
from moeproof.runner import IsolatedJudge, Subject
from moeproof.usage_error import UsageError

_DEFAULT_PROFILE = "quick"
_CASES_GIVEN = "given cases"


def add_parser(commands: Commands) -> None:
    """``run`` and ``replay``."""
    _add_run(commands.add_parser("run", help="judge an implementation by a profile's cases"))
    _add_replay(commands.add_parser("replay", help="judge one case again and tell all about it"))


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(carry_out=run_command)
    add_subject(parser)
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
        "--resume",
        action="store_true",
        help="go on with what a run that was cut has left in --report's folder",
    )
    parser.add_argument(
        "--shard",
        metavar="INDEX/COUNT",
        type=_shard,
        help="judge one of so many parts of the cases; see moeproof merge",
    )
    add_placed_workers(parser)


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(carry_out=replay_command)
    parser.add_argument("case_id", metavar="CASE_ID")
    add_subject(parser)
    parser.add_argument(
        "--check", metavar="NAME", help="only this check (default: all that apply to the case)"
    )


def run_command(arguments: argparse.Namespace) -> int:
    """Judge the planned cases, write the report, print the summary."""
    if arguments.cases:
        profile = _CASES_GIVEN
        planned = _plan_cases(arguments.cases, arguments.device)
    else:
        profile = arguments.profile or _DEFAULT_PROFILE
        planned = _plan_profile(profile, arguments.device)
    if arguments.resume and arguments.report is None:
        raise UsageError("--resume needs --report DIR, the folder of the run that was cut")
    shard = None
    if arguments.shard is not None:
        shard = arguments.shard.describe(planned)
        planned = arguments.shard.part_of(planned)
        if not planned:
            raise UsageError(f"--shard {shard.index}/{shard.count} has no case; use fewer shards")
    started = time.monotonic()
    recording = None
    with ExitStack() as stack:
        if arguments.report is not None:
            directory = stack.enter_context(ReportDirectory.claimed(arguments.report))
            recording = Recording(directory, shard, arguments.resume)
        verdicts = judge_plan(
            planned,
            subject=_subject(arguments),
            profile=profile,
            workers=arguments.workers,
            recording=recording,
        )
    print_summary(verdicts, seconds=time.monotonic() - started)
    if recording is not None:
        print(f"report: {recording.directory.html}")
    return exit_code(verdicts)


def replay_command(arguments: argparse.Namespace) -> int:
    """Judge one case, or one check of it, and print all that is known."""
    (planned,) = _plan_cases([arguments.case_id], arguments.device)
    if arguments.check is not None:
        if arguments.check not in planned.checks:
            raise UsageError(
                f"--check {arguments.check!r} does not apply to this case on device "
                f"{arguments.device}; allowed: {', '.join(planned.checks)}"
            )
        planned = PlannedCase(planned.case, (arguments.check,))
    with IsolatedJudge(_subject(arguments)) as judge:
        judge.start()
        print(describe_case(planned.case))
        verdicts = judge.judge(planned)
    for verdict in verdicts:
        print(f"\n{describe_verdict(verdict)}")
    return exit_code(verdicts)


def _shard(text: str) -> ShardChoice:
    try:
        return ShardChoice.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _subject(arguments: argparse.Namespace) -> Subject:
    return Subject(arguments.implementation, arguments.device, arguments.timeout)


def _plan_profile(profile: str, device: str) -> list[PlannedCase]:
    from moeproof.profiles import plan

    try:
        return plan(profile, device)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _plan_cases(case_ids: Iterable[str], device: str) -> list[PlannedCase]:
    """Each case once, with every check that applies to it."""
    from moeproof.judge import checks_for

    try:
        cases = [parse_case_id(case_id) for case_id in dict.fromkeys(case_ids)]
    except ValueError as error:
        raise UsageError(str(error)) from error
    return [PlannedCase(case, tuple(checks_for(case, device))) for case in cases]
