"""A report as one self-contained page for people.

The page works from a file, without scripts and on paper, and loads nothing. What passed is summed
up, so that a run of any size stays a page of a few megabytes.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from moeproof.report.fault_matrix import FaultMatrix, issue_address, issue_name
from moeproof.report.page import distribution, evidence
from moeproof.report.page.distribution import histograms
from moeproof.report.page.failures import anchors_of, failure_groups
from moeproof.report.page.matrix import matrices
from moeproof.report.page.summary import (
    check_summaries,
    glance,
    slowest_cases,
    unsupported_reasons,
)
from moeproof.report.page.suspects import suspects
from moeproof.report.page.traits import judged_verdicts
from moeproof.report.report import Report
from moeproof.report.text import printable
from moeproof.verdict import Outcome


def render_html(
    report: Report, *, targets_page: str | None = None, faults: FaultMatrix | None = None
) -> str:
    """The page, ready to be written as UTF-8.

    Args:
        report: of the run.
        targets_page: where the page about the compiled code is, from this page's folder.
        faults: what caught the planted faults, if that is to be shown.
    """
    judged = judged_verdicts(report)
    failures = failure_groups(judged)
    page = (
        page_environment()
        .get_template("index.html.j2")
        .render(
            report=report,
            metadata=report.metadata,
            glance=glance(report),
            checks=check_summaries(report),
            suspects=suspects(judged),
            matrices=matrices(judged, anchors_of(failures)),
            histograms=histograms(judged),
            failures=failures,
            unsupported=unsupported_reasons(report),
            slowest=slowest_cases(report),
            targets_page=targets_page,
            faults=faults,
        )
    )
    return printable(page)


def template_environment() -> Environment:
    """The templates alone: values are escaped, and one that is missing is an error."""
    return Environment(
        loader=PackageLoader("moeproof.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def page_environment() -> Environment:
    """The templates, with the filters and drawings that all pages of runs share."""
    environment = template_environment()
    environment.globals.update(
        Outcome=Outcome,
        distribution=distribution,
        evidence=evidence,
    )
    environment.filters.update(thousands=_thousands, duration=_duration, ratio=_ratio)
    environment.filters.update(issue_address=issue_address, issue_name=issue_name)
    return environment


def _thousands(number: int) -> str:
    return f"{number:,}"


def _ratio(number: float) -> str:
    return f"{number:.3g}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
