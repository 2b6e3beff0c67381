"""A report as one self-contained page for people."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from moeproof.report.report import Report
from moeproof.verdict import Outcome


def render_html(report: Report) -> str:
    """The page: no script is needed, nothing is loaded from elsewhere."""
    page = _environment().get_template("index.html.j2").render(report=report, Outcome=Outcome)
    # A message may hold lone surrogates, which no encoding has.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("moeproof.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
