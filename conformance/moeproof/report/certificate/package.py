"""The package of a certification: a folder or a zip file that can be checked on its own."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moeproof.certification_list import digest_of_case_ids
from moeproof.report.certificate.certificate import Certificate, certify
from moeproof.report.certificate.hashes import chain_of, first_break, sha256
from moeproof.report.certificate.statement import render_statement
from moeproof.report.certificate.waivers import WaiverError, parse_waivers, waivers_text
from moeproof.report.html import render_html
from moeproof.report.jsonl import report_text
from moeproof.report.junit import render_junit
from moeproof.report.reading import parse_report
from moeproof.report.report import ReportError
from moeproof.report.suite_hash import suite_hash

FORMAT = 1
PROFILE = "certification"
REPORT, STATEMENT, WAIVERS, CHAIN = "report.jsonl", "statement.md", "waivers.json", "chain.txt"
ENVIRONMENT, PAGE, JUNIT = "environment.json", "index.html", "junit.xml"
MANIFEST, SEAL = "manifest.json", "seal.txt"
_CONTENT = (REPORT, STATEMENT, WAIVERS, CHAIN, ENVIRONMENT, PAGE, JUNIT)
_LARGEST_FILE = 2**30

Files = dict[str, bytes]


class PackageError(ValueError):
    """A package is incomplete, was altered, or is of another version of the suite."""


def make_package(certificate: Certificate, environment: Mapping[str, Any]) -> Files:
    """The files of a package by name.

    Args:
        certificate: what it says.
        environment: the machine and all that was installed, as plain data.
    """
    report = certificate.report
    report_lines = report_text(report).encode()
    chain = chain_of(report_lines)
    files = {
        REPORT: report_lines,
        STATEMENT: render_statement(certificate).encode(),
        WAIVERS: waivers_text(certificate.waivers).encode(),
        CHAIN: "".join(f"{link}\n" for link in chain).encode(),
        ENVIRONMENT: (json.dumps(environment, indent=2, sort_keys=True) + "\n").encode(),
        PAGE: render_html(report).encode(),
        JUNIT: render_junit(report).encode(),
    }
    manifest = {
        "format": FORMAT,
        "result": certificate.result.value,
        "suite_version": report.metadata.suite_version,
        "suite_hash": report.metadata.suite_hash,
        "case_digest": digest_of_case_ids(verdict.case_id for verdict in report.verdicts),
        "plan_digest": report.header.plan_digest,
        "chain_end": chain[-1],
        "files": {name: sha256(files[name]) for name in _CONTENT},
    }
    files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    files[SEAL] = f"{sha256(files[MANIFEST])}\n".encode()
    return files


def write_package(files: Files, path: Path) -> None:
    """Write a folder, or a zip file if the name ends so, whole or not at all.

    Raises:
        FileExistsError: something is there already. OSError: it cannot be written.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.suffix == ".zip":
            temporary.write_bytes(_zipped(files))
        else:
            temporary.mkdir()
            for name, content in files.items():
                (temporary / name).write_bytes(content)
        temporary.rename(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def read_package(path: Path) -> Files:
    """The files of a folder or a zip file. Raises PackageError if it is neither."""
    try:
        if path.is_dir():
            return {item.name: _content(item) for item in sorted(path.iterdir())}
        with zipfile.ZipFile(path) as archive:
            return _unzipped(path, archive)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise PackageError(f"{path}: cannot be read: {error}") from error


def verify_package(files: Files, *, plan_digest_of: Callable[[str], str]) -> Certificate:
    """The certificate of a package that is whole and unaltered.

    Args:
        files: by name.
        plan_digest_of: device name -> digest of the must-pass list's cases and checks in the
            installed suite; empty for a device that is unknown.

    Raises:
        PackageError: a file is missing, altered or does not belong; the hashes do not fit each
            other; the report is not of the whole list of this version of the suite; the statement
            or the result does not follow from the report.
    """
    manifest = _manifest(files)
    _require_files(files, manifest)
    if (end := files[CHAIN].decode().split())[-1:] != [manifest["chain_end"]]:
        raise PackageError(f"{CHAIN}: ends with {end[-1:]}, the manifest says otherwise")
    try:
        report = parse_report(files[REPORT], Path(REPORT))
        certificate = certify(report, parse_waivers(files[WAIVERS].decode()))
    except (ReportError, WaiverError, UnicodeDecodeError) as error:
        raise PackageError(str(error)) from error
    _require_list(certificate, manifest, plan_digest_of)
    for name, said, found in (
        (MANIFEST, manifest["result"], certificate.result.value),
        (STATEMENT, files[STATEMENT], render_statement(certificate).encode()),
    ):
        if said != found:
            raise PackageError(f"{name}: does not follow from {REPORT} and {WAIVERS}")
    return certificate


def _manifest(files: Files) -> dict[str, Any]:
    for name in (MANIFEST, SEAL):
        if name not in files:
            raise PackageError(f"{name} is missing")
    if files[SEAL] != f"{sha256(files[MANIFEST])}\n".encode():
        raise PackageError(f"{MANIFEST} was altered: {SEAL} does not fit it")
    try:
        manifest = json.loads(files[MANIFEST])
        complete = manifest["format"] == FORMAT and set(manifest["files"]) == set(_CONTENT)
        keys = ("result", "suite_version", "suite_hash", "case_digest", "plan_digest", "chain_end")
        complete = complete and all(isinstance(manifest[key], str) for key in keys)
    except (ValueError, TypeError, KeyError):
        complete = False
    if not complete:
        raise PackageError(f"{MANIFEST}: is no manifest of format {FORMAT}")
    return dict(manifest)


def _require_files(files: Files, manifest: Mapping[str, Any]) -> None:
    missing = set(_CONTENT) - set(files)
    foreign = set(files) - {*_CONTENT, MANIFEST, SEAL}
    if missing or foreign:
        name = min(missing or foreign)
        raise PackageError(f"{name} {'is missing' if missing else 'does not belong here'}")
    if REPORT in files and sha256(files[REPORT]) != manifest["files"][REPORT]:
        chain = files[CHAIN].decode(errors="replace").split()
        line = first_break(files[REPORT], chain)
        where = f"{REPORT}, line {line}" if line else REPORT
        raise PackageError(f"{where}: was altered, added or removed")
    for name in _CONTENT:
        if sha256(files[name]) != manifest["files"][name]:
            raise PackageError(f"{name} was altered: its digest is not the manifest's")
    if first_break(files[REPORT], files[CHAIN].decode(errors="replace").split()) is not None:
        raise PackageError(f"{CHAIN} does not fit {REPORT}")


def _require_list(
    certificate: Certificate, manifest: Mapping[str, Any], plan_digest_of: Callable[[str], str]
) -> None:
    header, metadata = certificate.report.header, certificate.report.metadata
    if metadata.profile != PROFILE or header.shard is not None:
        raise PackageError(f"{REPORT}: is of profile {metadata.profile!r}, not of {PROFILE!r}")
    case_digest = digest_of_case_ids(verdict.case_id for verdict in certificate.report.verdicts)
    for name, said, found in (
        ("suite_version", manifest["suite_version"], metadata.suite_version),
        ("suite_hash", manifest["suite_hash"], metadata.suite_hash),
        ("case_digest", manifest["case_digest"], case_digest),
        ("plan_digest", manifest["plan_digest"], header.plan_digest),
    ):
        if said != found:
            raise PackageError(f"{MANIFEST}: {name} is {said}, the report's is {found}")
    if metadata.suite_hash != suite_hash():
        raise PackageError(
            f"the package is of moeproof {metadata.suite_version} with hash {metadata.suite_hash}; "
            f"installed is one with hash {suite_hash()}: verify with that version"
        )
    if header.plan_digest != plan_digest_of(metadata.device):
        raise PackageError(
            f"{REPORT}: its cases and checks are not this version's must-pass list for device "
            f"{metadata.device!r}"
        )


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise PackageError(f"{path}: is no file")
    return path.read_bytes()


def _zipped(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _unzipped(path: Path, archive: zipfile.ZipFile) -> Files:
    names = archive.namelist()
    if len(names) != len(set(names)):
        raise PackageError(f"{path}: holds a file twice")
    if any(item.file_size > _LARGEST_FILE for item in archive.infolist()):
        raise PackageError(f"{path}: holds a file of more than {_LARGEST_FILE} bytes")
    return {name: archive.read(name) for name in names}
