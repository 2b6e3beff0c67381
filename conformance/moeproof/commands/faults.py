"""``moeproof faults``: does the suite catch what is wrong on purpose, and pass what is right?"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from moeproof.case_id import parse_case_id
from moeproof.commands.arguments import Commands, add_device, add_timeout, add_workers
from moeproof.planned_case import PlannedCase
from moeproof.report import write_whole
from moeproof.report.fault_matrix import FaultMatrix, FaultResult, as_markdown
from moeproof.report.suite_hash import suite_hash
from moeproof.report_directory import ReportDirectory
from moeproof.usage_error import UsageError

if TYPE_CHECKING:
    from moeproof.faults.fault import Entry, Fault

_PROFILE = "quick"
_KINDS = ("experts", "kernel", "router")


def add_parser(commands: Commands) -> None:
    """``faults``."""
    parser = commands.add_parser(
        "faults", help="show which checks catch which planted faults, and that right ones pass"
    )
    parser.set_defaults(carry_out=faults_command)
    parser.add_argument("names", metavar="FAULT", nargs="*", help="these alone (default: all)")
    parser.add_argument(
        "--kind", choices=_KINDS, nargs="+", default=_KINDS, help="of these kinds (default: all)"
    )
    parser.add_argument("--check", metavar="NAME", nargs="+", help="judge by these checks alone")
    parser.add_argument(
        "--search",
        action="store_true",
        help="judge each fault by the profile in order, until every check that catches it has; "
        "otherwise the case that is known to catch it comes first, and nothing after a catch",
    )
    parser.add_argument(
        "--variants",
        action="store_true",
        help="judge every right variant by the whole profile, too",
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        help="write faults.jsonl and faults.html there; the page of a run there shows them, too",
    )
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the table there")
    add_timeout(parser)
    add_device(parser)
    add_workers(parser)


def faults_command(arguments: argparse.Namespace) -> int:
    """Judge faults, then the right implementations; print the matrix and write it where asked."""
    from moeproof.fault_runner import FaultRun
    from moeproof.faults.known_catches import known_catches
    from moeproof.profiles import plan

    faults = _chosen_faults(arguments)
    planned = _by_checks(plan(_PROFILE, arguments.device), arguments.check)
    run = FaultRun(
        device=arguments.device,
        workers=arguments.workers,
        timeout_seconds=arguments.timeout,
        every_check=arguments.search,
    )
    known = {} if arguments.search else known_catches(planned)
    results = _told(run.judge(faults, planned, known=known))
    order = {fault.name: place for place, fault in enumerate(faults)}
    results.sort(key=lambda result: order[result.name])
    for right, cases in _right_ones(results, planned, variants=arguments.variants):
        results += _told(replace(run, every_check=True).judge([right], cases))
    matrix = FaultMatrix(suite_hash(), _PROFILE, arguments.device, tuple(results))
    _write(matrix, arguments)
    for missed in matrix.missed:
        print(f"not caught: {missed.name}: {missed.summary}")
    for refused in matrix.refused:
        print(f"refused though right: {refused.name}: {refused.catches[0].message}")
    print(matrix.summary)
    return 1 if matrix.missed or matrix.refused else 0


def _chosen_faults(arguments: argparse.Namespace) -> list[Fault]:
    from moeproof.faults import FAULTS

    for name in arguments.names:
        if name not in FAULTS:
            raise UsageError(f"fault {name!r} is unknown; see moeproof list faults")
    return [
        fault
        for fault in FAULTS.values()
        if fault.kind in arguments.kind and (not arguments.names or fault.name in arguments.names)
    ]


def _by_checks(planned: Sequence[PlannedCase], names: Sequence[str] | None) -> list[PlannedCase]:
    """The plan with the named checks alone; all without names."""
    known = dict.fromkeys(check for item in planned for check in item.checks)
    for name in names or ():
        if name not in known:
            raise UsageError(f"--check {name!r} is unknown; allowed: {', '.join(known)}")
    chosen = known if names is None else dict.fromkeys(names)
    kept = [
        PlannedCase(item.case, tuple(check for check in item.checks if check in chosen))
        for item in planned
    ]
    return [item for item in kept if item.checks]


def _right_ones(
    results: Sequence[FaultResult], planned: Sequence[PlannedCase], *, variants: bool
) -> Iterator[tuple[Fault, Sequence[PlannedCase]]]:
    """What must pass, and where: what a fault was made from, in the cases that caught it."""
    from moeproof.faults import CONTROL, FAULTS
    from moeproof.faults.kernel_edits import UNEDITED
    from moeproof.variants import VARIANTS

    pairs: dict[Fault, dict[str, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        fault = FAULTS[result.name]
        right = replace(UNEDITED if fault.kind == "kernel" else CONTROL, entry=fault.entry)
        for catch in result.catches:
            pairs[right][catch.case_id][catch.check] = None
    for right, cases in pairs.items():
        yield right, [PlannedCase(parse_case_id(i), tuple(checks)) for i, checks in cases.items()]
    if variants:
        for name, variant in VARIANTS.items():
            entry: Entry = "route" if variant.kind == "router" else "fused_experts"
            right = replace(CONTROL, name=name, summary=variant.summary, entry=entry)
            yield replace(right, found_in="moeproof.variants"), planned


def _told(results: Iterable[FaultResult]) -> list[FaultResult]:
    """The results, each printed as it comes."""
    told = []
    for result in results:
        told.append(result)
        checks = ", ".join(f"{catch.check} {catch.cases}" for catch in result.catches)
        cases = f"{result.cases} case{'s' * (result.cases != 1)}"
        if result.not_judged:
            outcome = f"not judged: {result.not_judged}"
        elif result.kind == "right":
            outcome = f"REFUSED by {checks}" if checks else f"passes {cases}"
        elif checks:
            first = result.catches[0]
            outcome = f"caught by {checks}, after {first.seconds:.2f} s in {first.case_id}"
        else:
            outcome = f"NOT CAUGHT in {cases}"
        print(f"{result.name}: {outcome}", flush=True)
    return told


def _write(matrix: FaultMatrix, arguments: argparse.Namespace) -> None:
    """The files that were asked for."""
    if arguments.report is not None:
        with ReportDirectory.claimed(arguments.report) as directory:
            directory.write_faults(matrix)
        print(f"report: {directory.faults_html}")
    if arguments.markdown is not None:
        try:
            write_whole(arguments.markdown, as_markdown(matrix.results))
        except OSError as error:
            raise UsageError(f"{arguments.markdown}: cannot be written: {error}") from error
