"""The matrix of faults: its totals, its file, its page and its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moeproof.report.fault_matrix import (
    Catch,
    FaultMatrix,
    FaultResult,
    as_markdown,
    read_fault_matrix,
    write_fault_matrix,
)
from moeproof.report.fault_page import render_fault_page
from moeproof.report.report import Report, ReportError
from moeproof.report_directory import ReportDirectory

CATCH = Catch("accuracy", "a/case", "wrong <by> far", 3, 0.5)
CAUGHT = FaultResult(
    "gelu", "experts", "activation", "GELU", ("vllm-project/vllm#1",), (CATCH,), 3, 0.5
)
MISSED = replace(CAUGHT, name="relu", catches=())
ELSEWHERE = replace(MISSED, name="tf32", not_judged="shows on cuda alone")
RIGHT = replace(MISSED, name="none", kind="right")
REFUSED = replace(CAUGHT, name="tree", kind="right")
MATRIX = FaultMatrix("0" * 64, "quick", "cpu", (CAUGHT, MISSED, ELSEWHERE, RIGHT, REFUSED))


def test_totals() -> None:
    assert MATRIX.faults == (CAUGHT, MISSED)
    assert MATRIX.missed == (MISSED,)
    assert MATRIX.refused == (REFUSED,)
    assert MATRIX.worst_first == (MISSED, REFUSED, CAUGHT, ELSEWHERE, RIGHT)
    assert MATRIX.summary == (
        "1 of 2 faults caught, first after 0.50 s (median) and 0.50 s (most), "
        "1 of 2 right implementations refused, 1 faults need another device"
    )


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "faults.jsonl"
    write_fault_matrix(path, MATRIX)
    assert read_fault_matrix(path) == MATRIX


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "faults.jsonl"
    write_fault_matrix(path, MATRIX)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ReportError, match="4 faults instead of 5"):
        read_fault_matrix(path)


def test_the_page_says_what_was_caught_and_by_which_suite() -> None:
    page = render_fault_page(MATRIX)
    assert "1 of 2 faults caught" in page
    assert "000000000000" in page
    assert "which is not the suite at hand" in page
    assert 'href="https://github.com/vllm-project/vllm/issues/1"' in page
    assert "wrong &lt;by&gt; far" in page
    assert "not caught (3 cases)" in page
    assert "shows on cuda alone" in page


def test_the_table_links_issues_and_says_what_was_missed() -> None:
    table = as_markdown(MATRIX.results)
    assert "[vllm#1](https://github.com/vllm-project/vllm/issues/1)" in table
    assert "| accuracy 3 | `a/case` |" in table
    assert "**not caught**" in table


def test_a_run_beside_it_shows_the_matrix(report: Report, tmp_path: Path) -> None:
    directory = ReportDirectory(tmp_path)
    directory.write(report)
    assert "What the suite catches" not in directory.html.read_text()
    directory.write_faults(MATRIX)
    assert "What the suite catches" in directory.html.read_text()
    assert read_fault_matrix(directory.faults_jsonl) == MATRIX
    assert "1 of 2 faults caught" in directory.faults_html.read_text()
