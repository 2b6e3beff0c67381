"""A run's results: written while it goes, read back whole, shown to people and to machines."""

from __future__ import annotations

from moeproof.report.files import write_whole
from moeproof.report.html import render_html
from moeproof.report.jsonl import ReportWriter, read_report
from moeproof.report.junit import render_junit
from moeproof.report.metadata import Package, RunMetadata, collect_metadata
from moeproof.report.report import Footer, Header, Report, ReportError

__all__ = [
    "Footer",
    "Header",
    "Package",
    "Report",
    "ReportError",
    "ReportWriter",
    "RunMetadata",
    "collect_metadata",
    "read_report",
    "render_html",
    "render_junit",
    "write_whole",
]
