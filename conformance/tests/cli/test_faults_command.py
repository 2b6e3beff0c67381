"""``moeproof faults``: what it prints, writes and returns."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeproof.cli import main
from moeproof.report.fault_matrix import read_fault_matrix


def test_a_caught_fault_and_its_right_steps(tmp_path: Path, capsys) -> None:
    table = tmp_path / "faults.md"
    arguments = ["gelu", "--check", "accuracy", "--report", str(tmp_path), "--markdown", str(table)]
    assert main(["faults", *arguments, "-n", "1"]) == 0
    printed = capsys.readouterr().out
    assert "gelu: caught by accuracy 1, after" in printed
    assert "none: passes 1 case\n" in printed
    assert "1 of 1 faults caught" in printed
    matrix = read_fault_matrix(tmp_path / "faults.jsonl")
    assert [result.name for result in matrix.results] == ["gelu", "none"]
    assert "1 of 1 faults caught" in (tmp_path / "faults.html").read_text()
    assert "| `gelu` |" in table.read_text()


def test_a_fault_that_no_check_catches_fails(capsys) -> None:
    assert main(["faults", "scaling_twice", "--check", "rejects", "-n", "1"]) == 1
    assert "not caught: scaling_twice" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_fault"], "fault 'no_such_fault' is unknown"),
        (["gelu", "--check", "no_such_check"], "allowed: accuracy"),
    ],
)
def test_what_is_unknown_is_an_error(arguments: list[str], message: str, capsys) -> None:
    assert main(["faults", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_faults_are_listed(capsys) -> None:
    assert main(["list", "faults"]) == 0
    assert "GELU instead of SiLU" in capsys.readouterr().out
