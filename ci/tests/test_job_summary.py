"""``ci/job_summary.py`` on reports that the suite wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moeproof.cli import main

ROOT = Path(__file__).resolve().parents[2]
GOOD, BAD = (
    f"T{count}-H16-I16-E4-K2-bf16/uniform/random/contiguous/0"
    for count in (0, 1)  # the subject is right on no token, and raises on one
)
MISBEHAVING = ROOT / "conformance" / "tests" / "subjects" / "misbehaving.py"


def summary(folder: Path) -> str:
    """As a runner makes it: with nothing but Python."""
    command = [sys.executable, "-I", "-S", str(ROOT / "ci" / "job_summary.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    subject = ["--implementation", f"{MISBEHAVING}:fused_experts", "-n", "1"]
    assert main(["run", *subject, "--case", GOOD, BAD, "--report", str(folder / "cpu")]) == 1
    return folder


def test_counts_and_what_failed_are_shown(reports: Path) -> None:
    text = summary(reports)
    assert f"### {reports / 'cpu'}" in text
    assert "misbehaving.py:fused_experts` on cpu" in text
    assert "- **ERROR accuracy** RuntimeError: no such tile" in text
    assert f"`moeproof replay {BAD} --check accuracy" in text
    assert "Cut" not in text
    # Not a second time, from the suite's own JUnit file.
    assert text.count("###") == 1


def test_a_cut_report_is_told_of(reports: Path, tmp_path: Path) -> None:
    whole = (reports / "cpu" / "report.jsonl").read_text("utf-8")
    cut = tmp_path / "cpu" / "report.partial.jsonl"
    cut.parent.mkdir()
    cut.write_text(whole[: len(whole) // 2], "utf-8")
    assert "**Cut: this run did not come to its end**" in summary(tmp_path)


def test_no_report_is_told_of(tmp_path: Path) -> None:
    assert summary(tmp_path) == f"No report in `{tmp_path}`.\n"


def test_pytests_counts_are_shown(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(
        '<testsuites><testsuite tests="5" failures="2" errors="0" skipped="1"/></testsuites>'
    )
    assert (
        "| tests | failures | errors | skipped |\n|---|---|---|---|\n| 5 | 2 | 0 | 1 |"
        in summary(tmp_path)
    )


def test_what_the_fuzzer_found_is_shown(tmp_path: Path) -> None:
    subject = ["--implementation", "moeproof.faults:gelu", "-n", "1"]
    folder = ["--report", str(tmp_path / "fuzz")]
    assert main(["fuzz", *subject, *folder, "--minutes", "1"]) == 1
    text = summary(tmp_path)
    assert "cases judged, seed" in text
    assert "1 failures\n- **FAIL " in text
    assert "`moeproof replay " in text
