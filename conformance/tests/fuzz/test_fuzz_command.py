"""What a person sees of ``moeproof fuzz``: its output, its files, its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moeproof.cli import main
from moeproof.regressions import read_regressions

SUBJECTS = Path(__file__).parents[1] / "subjects"
GELU = "moeproof.faults:gelu"


def fuzz(reference: str, *arguments: str) -> int:
    return main(["fuzz", "--implementation", reference, "--seed", "1", *arguments])


def test_a_failure_is_told_kept_and_looked_at_first_next_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, database = tmp_path / "report", tmp_path / "database"
    kept = ("--report", str(report), "--database", str(database))
    assert fuzz(GELU, "--minutes", "2", "-n", "2", *kept) == 1
    output = capsys.readouterr().out
    ((name, regression),) = read_regressions(database).items()
    reproducer = (
        f"moeproof replay {regression.case_id} --check accuracy --implementation {GELU} "
        "--device cpu"
    )
    assert f"\n  {reproducer}\n" in output
    assert f"kept: {database / name}" in output
    assert regression.implementation == GELU
    assert regression.case_id.startswith("T1-H4-I4-E1-K1-")
    content = json.loads((report / "fuzz.json").read_text())
    assert content["seed"] == 1
    assert content["metadata"]["implementation"] == GELU
    assert content["failures"][0]["reproducer"] == reproducer
    # No case was under way when it ended.
    assert {path.name for path in report.iterdir()} == {"fuzz.json"}

    assert fuzz(GELU, "--minutes", "2", "-n", "1", *kept) == 1
    output = capsys.readouterr().out
    assert "1 cases judged" in output
    assert "kept:" not in output
    assert list(read_regressions(database)) == [name]


def test_nothing_wrong_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz("torch_eager", "--minutes", "0.3", "--profile", "debug", "-n", "1") == 0
    output = capsys.readouterr().out
    assert "\nok  T0-H4-I4-E1-K1-bf16/uniform/random/contiguous/0\n" in output
    assert " a second, " in output
    assert "\nlargest error:bound, bf16: " in output


def test_nothing_judged_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    reference = f"{SUBJECTS / 'right.py'}:claims_nothing"
    assert fuzz(reference, "--minutes", "0.02", "-n", "1") == 2
    assert "nothing was judged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--implementation", "no_such_kernel"], "'no_such_kernel' is unknown"),
        (["--implementation", GELU, "--database", __file__], "--database"),
    ],
)
def test_what_cannot_be_carried_out_exits_with_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuzz", "--minutes", "1", "-n", "1", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_file_that_is_no_regression_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.json").write_text("[]")
    assert fuzz(GELU, "--database", str(tmp_path)) == 2
    assert "wrong.json: no regression" in capsys.readouterr().err


def test_an_interrupt_ends_every_process_and_leaves_the_case_under_way(tmp_path: Path) -> None:
    reference = f"{SUBJECTS / 'misbehaving.py'}:hangs_and_leaves_a_trace"
    arguments = ["--implementation", reference, "--report", str(tmp_path), "-n", "1", "--seed", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "moeproof.cli", "fuzz", *arguments],
        env={**os.environ, "PIDS": str(tmp_path / "pids")},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120.0
    while not (tmp_path / "pids").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "moeproof fuzz: interrupted\n"
    for pid in (tmp_path / "pids").read_text().split():
        assert not Path(f"/proc/{pid}/cwd").exists()
    assert (tmp_path / "under_way.0.txt").read_text().startswith("T1-")
