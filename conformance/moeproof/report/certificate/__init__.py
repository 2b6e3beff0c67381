"""A certification as a package of files: what was run, what it says, and hashes to check it by."""

from __future__ import annotations

from moeproof.report.certificate.certificate import Certificate, Result, certify
from moeproof.report.certificate.package import (
    PackageError,
    make_package,
    read_package,
    verify_package,
    write_package,
)
from moeproof.report.certificate.waivers import Waiver, WaiverError, parse_waivers

__all__ = [
    "Certificate",
    "PackageError",
    "Result",
    "Waiver",
    "WaiverError",
    "certify",
    "make_package",
    "parse_waivers",
    "read_package",
    "verify_package",
    "write_package",
]
