"""A report as JUnit XML, for continuous integration: a suite a check, a test case a case."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from moeproof.report.metadata import RunMetadata
from moeproof.report.report import Report, count_outcomes
from moeproof.report.text import printable
from moeproof.verdict import Outcome, Verdict


def render_junit(report: Report) -> str:
    """The XML document. FAIL is a failure, ERROR an error, UNSUPPORTED a skipped test."""
    verdicts = [*report.verdicts, *(each.as_verdict() for each in report.footer.rounding)]
    root = Element("testsuites", _totals(verdicts), name="moeproof")
    by_check = sorted(verdicts, key=attrgetter("check"))
    for check, of_check in groupby(by_check, key=attrgetter("check")):
        root.append(_suite(check, list(of_check), report))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _suite(check: str, verdicts: Sequence[Verdict], report: Report) -> Element:
    suite = Element(
        "testsuite",
        _totals(verdicts),
        name=printable(check),
        timestamp=report.header.started_at,
    )
    properties = SubElement(suite, "properties")
    for name, value in _properties(report.metadata).items():
        SubElement(properties, "property", name=printable(name), value=printable(value))
    suite.extend([_test_case(verdict) for verdict in verdicts])
    return suite


def _totals(verdicts: Sequence[Verdict]) -> dict[str, str]:
    counts = count_outcomes(verdicts)
    return {
        "tests": str(len(verdicts)),
        "failures": str(counts[Outcome.FAIL]),
        "errors": str(counts[Outcome.ERROR]),
        "skipped": str(counts[Outcome.UNSUPPORTED]),
        "time": f"{sum(verdict.seconds for verdict in verdicts):.6f}",
    }


def _test_case(verdict: Verdict) -> Element:
    case = Element(
        "testcase",
        classname=printable(f"moeproof.{verdict.check}"),
        name=printable(verdict.case_id),
        time=f"{verdict.seconds:.6f}",
    )
    message = printable(verdict.message)
    if verdict.outcome is Outcome.UNSUPPORTED:
        SubElement(case, "skipped", message=message)
    elif verdict.outcome is not Outcome.PASS:
        tag = "failure" if verdict.outcome is Outcome.FAIL else "error"
        element = SubElement(case, tag, message=message, type=verdict.outcome.value)
        worst = f"\nworst element: {verdict.worst}" if verdict.worst else ""
        element.text = printable(f"{verdict.message}{worst}\nreproduce: {verdict.reproducer}")
    return case


def _properties(metadata: RunMetadata) -> dict[str, str]:
    return {
        "implementation": metadata.implementation,
        "implementation_version": metadata.implementation_version,
        "device": metadata.device,
        **{f"device.{name}": value for name, value in metadata.device_description.items()},
        **{f"package.{package.distribution}": package.version for package in metadata.packages},
        "python": metadata.python,
        "platform": metadata.platform,
        **{f"environment.{name}": value for name, value in metadata.environment.items()},
        "profile": metadata.profile,
        "suite_version": metadata.suite_version,
        "suite_hash": metadata.suite_hash,
    }
