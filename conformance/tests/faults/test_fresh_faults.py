"""Engines written as a user writes them, with a bug that is not in the corpus, and without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeproof.cli import main
from moeproof.profiles import plan
from moeproof.report import read_report
from moeproof.runner import run
from moeproof.verdict import Outcome

ENGINES = sorted((Path(__file__).parent / "fresh").glob("*.py"))
each_engine = pytest.mark.parametrize("path", ENGINES, ids=lambda path: path.stem)


@each_engine
def test_the_quick_profile_catches_the_wrong_engine(path: Path) -> None:
    planned = plan("quick", "cpu")
    verdicts = run(
        planned,
        implementation=f"{path}:wrong",
        device="cpu",
        workers=1,
        timeout_seconds=60.0,
    )
    assert any(verdict.outcome is Outcome.FAIL for verdict in verdicts)


@each_engine
def test_its_right_twin_passes_the_quick_profile(path: Path, tmp_path: Path) -> None:
    arguments = ["--implementation", f"{path}:right", "-n", "1", "--report", str(tmp_path)]
    assert main(["run", *arguments]) == 0
    passed = [
        verdict
        for verdict in read_report(tmp_path / "report.jsonl").verdicts
        if verdict.outcome is Outcome.PASS
    ]
    assert len({verdict.case_id for verdict in passed}) > 100
