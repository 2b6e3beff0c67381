"""The matrix of faults and checks as a page of its own; a run's page has it as a section."""

from __future__ import annotations

from moeproof.report.fault_matrix import FaultMatrix
from moeproof.report.html import page_environment
from moeproof.report.suite_hash import suite_hash
from moeproof.report.text import printable


def render_fault_page(matrix: FaultMatrix) -> str:
    """A page that works from a file and loads nothing, ready to be written as UTF-8."""
    template = page_environment().get_template("faults.html.j2")
    return printable(template.render(matrix=matrix, suite_hash=suite_hash()))
