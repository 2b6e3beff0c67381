"""``moeproof certify`` and ``moeproof verify``: the must-pass list, as a package to hand on."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from moeproof.commands.arguments import Commands, add_placed_workers, add_subject
from moeproof.commands.judging import Recording, judge_plan
from moeproof.devices import DEVICE_NAMES
from moeproof.planned_case import PlannedCase
from moeproof.report import RunMetadata
from moeproof.report.certificate import (
    Certificate,
    PackageError,
    Result,
    Waiver,
    WaiverError,
    certify,
    make_package,
    parse_waivers,
    read_package,
    verify_package,
    write_package,
)
from moeproof.report.certificate.package import PROFILE, SEAL
from moeproof.report.certificate.waivers import require_use
from moeproof.report.report import plan_digest, planned_pairs
from moeproof.report_directory import ReportDirectory
from moeproof.runner import Subject
from moeproof.usage_error import UsageError


def add_parser(commands: Commands) -> None:
    """``certify`` and ``verify``."""
    parser = commands.add_parser(
        "certify", help="judge the must-pass list of this version and write a package of it"
    )
    parser.set_defaults(carry_out=certify_command)
    add_subject(parser)
    add_placed_workers(parser)
    parser.add_argument(
        "--waivers",
        metavar="FILE",
        type=Path,
        help="a JSON list of objects with check, cases and reason: accepted though not passed",
    )
    parser.add_argument(
        "--output",
        metavar="PACKAGE",
        type=Path,
        required=True,
        help="the package: a zip file if the name ends so, else a folder; must not exist",
    )
    parser = commands.add_parser("verify", help="is a certification's package whole and unaltered?")
    parser.set_defaults(carry_out=verify_command)
    parser.add_argument("package", metavar="PACKAGE", type=Path)


def certify_command(arguments: argparse.Namespace) -> int:
    """Judge, write the package; 0 if certified, perhaps with waivers, else 1.

    The verdicts are recorded in ``PACKAGE.run`` until the package is written, so a run that was
    cut goes on when the same command is given again.
    """
    output: Path = arguments.output
    if output.exists():
        raise UsageError(f"--output {output}: exists already")
    planned = _plan(arguments.device)
    waivers = _waivers(arguments.waivers, planned)
    subject = Subject(arguments.implementation, arguments.device, arguments.timeout)
    with ReportDirectory.claimed(output.with_name(f"{output.name}.run")) as directory:
        judge_plan(
            planned,
            subject=subject,
            profile=PROFILE,
            workers=arguments.workers,
            recording=Recording(directory, resume=True),
        )
        certificate = certify(directory.read(), waivers)
        files = make_package(certificate, _environment(certificate.report.metadata))
        try:
            write_package(files, output)
        except OSError as error:
            raise UsageError(f"--output {output}: cannot be written: {error}") from error
        directory.remove_report()
    with suppress(OSError):  # something else lies there
        directory.path.rmdir()
    _print(certificate, files[SEAL].decode().strip())
    print(f"package: {output}")
    return _exit_code(certificate)


def verify_command(arguments: argparse.Namespace) -> int:
    """Print what the package says: 0 if certified, perhaps with waivers, 1 if not.

    Raises:
        UsageError: the package is not what was written.
    """
    try:
        files = read_package(arguments.package)
        certificate = verify_package(files, plan_digest_of=_plan_digest)
    except PackageError as error:
        raise UsageError(f"{arguments.package}: {error}") from error
    print("the package is whole, and all hashes fit")
    _print(certificate, files[SEAL].decode().strip())
    return _exit_code(certificate)


def _plan(device: str) -> list[PlannedCase]:
    from moeproof.profiles import plan

    return plan(PROFILE, device)


def _plan_digest(device: str) -> str:
    return plan_digest(planned_pairs(_plan(device))) if device in DEVICE_NAMES else ""


def _waivers(path: Path | None, planned: Sequence[PlannedCase]) -> tuple[Waiver, ...]:
    if path is None:
        return ()
    try:
        waivers = parse_waivers(path.read_text("utf-8"))
        require_use(waivers, planned_pairs(planned))
    except (OSError, UnicodeDecodeError, WaiverError) as error:
        raise UsageError(f"--waivers {path}: {error}") from error
    return waivers


def _environment(metadata: RunMetadata) -> Mapping[str, Any]:
    """What was installed beside the implementation, and what the run saw of the machine."""
    installed = {item.metadata["Name"]: item.version for item in distributions()}
    return {
        "python": platform.python_version(),
        "platform": metadata.platform,
        "device": dict(metadata.device_description),
        "environment": dict(metadata.environment),
        "distributions": installed,
    }


def _print(certificate: Certificate, seal: str) -> None:
    print(certificate.result.value)
    for waiver in certificate.waivers:
        count = sum(by == waiver for _, by in certificate.waived)
        print(f"  waived: {count} verdicts of {waiver.check} in {waiver.cases}: {waiver.reason}")
    for group in certificate.refused_groups():
        print(f"  {group}")
    print(f"seal: {seal}")


def _exit_code(certificate: Certificate) -> int:
    return 1 if certificate.result is Result.NOT_CERTIFIED else 0
