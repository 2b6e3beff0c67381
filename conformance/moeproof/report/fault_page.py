"""The matrix of faults and checks as HTML: a page of its own, and a section of a run's page."""

from __future__ import annotations

from moeproof.report.fault_matrix import FaultMatrix, address, short_name
from moeproof.report.html import page_environment
from moeproof.report.suite_hash import suite_hash
from moeproof.report.text import printable


def render_fault_page(matrix: FaultMatrix) -> str:
    """A page that works from a file and loads nothing, ready to be written as UTF-8."""
    template = page_environment().get_template("faults.html.j2")
    return printable(
        template.render(
            matrix=matrix,
            current=matrix.suite_hash == suite_hash(),
            short_name=short_name,
            address=address,
        )
    )
