"""A comparison as one self-contained page for people."""

from __future__ import annotations

from moeproof.report.comparison import plots
from moeproof.report.comparison.comparison import Comparison
from moeproof.report.comparison.markdown import name_of
from moeproof.report.html import page_environment
from moeproof.report.page.distribution import Histogram, histograms
from moeproof.report.page.traits import judged_verdicts
from moeproof.report.text import printable


def render_comparison_html(comparison: Comparison) -> str:
    """The page, ready to be written as UTF-8."""
    groups = [*comparison.dtypes, *comparison.groups]
    page = (
        page_environment()
        .get_template("comparison.html.j2")
        .render(
            comparison=comparison,
            names=[name_of(comparison.first), name_of(comparison.second)],
            plots=plots,
            ratio_rows=plots.ratio_rows(groups),
            histograms=_paired_histograms(comparison),
        )
    )
    return printable(page)


def _paired_histograms(comparison: Comparison) -> list[tuple[Histogram, Histogram]]:
    """A's and B's of each check and dtype that both have."""
    first, second = (
        {(item.check, item.dtype): item for item in histograms(judged_verdicts(report))}
        for report in (comparison.first, comparison.second)
    )
    return [(first[key], second[key]) for key in first if key in second]
