"""Two reports of the same cases held against each other: of one class, or what differs."""

from __future__ import annotations

from moeproof.report.comparison.comparison import Comparison, compare_reports
from moeproof.report.comparison.html import render_comparison_html
from moeproof.report.comparison.markdown import render_comparison_markdown

__all__ = [
    "Comparison",
    "compare_reports",
    "render_comparison_html",
    "render_comparison_markdown",
]
