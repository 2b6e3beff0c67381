"""A run's results: written while it goes, read back whole, shown to people and to machines."""

from __future__ import annotations

from moeproof.report.files import write_whole
from moeproof.report.html import render_html
from moeproof.report.jsonl import ReportWriter, report_text
from moeproof.report.junit import render_junit
from moeproof.report.merge import merge_reports
from moeproof.report.metadata import Package, RunMetadata, collect_metadata
from moeproof.report.reading import CutReport, parse_report, read_cut_report, read_report
from moeproof.report.report import Footer, Header, Report, ReportError, Shard
from moeproof.report.shard import ShardChoice

__all__ = [
    "CutReport",
    "Footer",
    "Header",
    "Package",
    "Report",
    "ReportError",
    "ReportWriter",
    "RunMetadata",
    "Shard",
    "ShardChoice",
    "collect_metadata",
    "merge_reports",
    "parse_report",
    "read_cut_report",
    "read_report",
    "render_html",
    "render_junit",
    "report_text",
    "write_whole",
]
