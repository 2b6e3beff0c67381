"""What a person sees of ``moeproof``: its output, its files, its exit codes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moeproof.cli import main
from moeproof.report import read_report
from moeproof.verdict import Outcome

SUBJECTS = Path(__file__).parents[1] / "subjects"
MISBEHAVING = f"{SUBJECTS / 'misbehaving.py'}:fused_experts"
RIGHT = f"{SUBJECTS / 'right.py'}:fused_experts"
RIGHT_CASE = "T30-H16-I16-E4-K2-bf16/uniform/random/contiguous/0"
NAN_CASE = "T6-H16-I16-E4-K2-bf16/uniform/random/contiguous/0"
GARBAGE_CASE = "T10-H16-I16-E4-K2-bf16/uniform/random/contiguous/0"
EXIT_CASE = "T15-H16-I16-E4-K2-bf16/uniform/random/contiguous/0"
ROUTER_CASE = "route-T5-E8-K2-softmax-renormalized-fp32/ties/0"


def moeproof(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "moeproof.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )


class TestRun:
    def test_failures_are_named_and_exit_with_1(self, tmp_path: Path) -> None:
        (tmp_path / "keep.txt").write_text("mine")
        (tmp_path / "index.html").write_text("of an earlier run")
        cases = (NAN_CASE, EXIT_CASE, RIGHT_CASE, GARBAGE_CASE, ROUTER_CASE)
        result = moeproof(
            "run", "--implementation", MISBEHAVING, "--case", *cases, "--report", str(tmp_path)
        )
        assert result.returncode == 1, result.stderr
        lines = result.stdout.splitlines()
        for case_id in (NAN_CASE, EXIT_CASE):
            reproducer = (
                f"  moeproof replay {case_id} --check accuracy --implementation {MISBEHAVING} "
                "--device cpu"
            )
            assert reproducer in lines
        assert RIGHT_CASE not in result.stdout.partition("slowest: ")[2].partition("\n")[2]
        assert "exited with code 3; it last wrote: giving up" in result.stdout
        assert re.search(r"\d+ x route is not offered", result.stdout)
        assert lines[-1] == f"report: {tmp_path / 'index.html'}"

        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"keep.txt", "report.jsonl", "junit.xml", "index.html"}
        assert (tmp_path / "keep.txt").read_text() == "mine"
        assert EXIT_CASE in (tmp_path / "index.html").read_text()
        report = read_report(tmp_path / "report.jsonl")
        assert report.metadata.implementation == MISBEHAVING
        assert {verdict.case_id for verdict in report.verdicts} == set(cases)
        accuracy = {
            verdict.case_id: verdict.outcome
            for verdict in report.verdicts
            if verdict.check == "accuracy"
        }
        assert accuracy == {
            NAN_CASE: Outcome.FAIL,
            EXIT_CASE: Outcome.ERROR,
            RIGHT_CASE: Outcome.PASS,
            GARBAGE_CASE: Outcome.PASS,
        }
        # What an implementation prints is not the suite's output.
        assert "a line" not in lines
        assert result.stderr == ""

    def test_a_right_implementation_exits_with_0(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "--implementation", RIGHT, "--case", RIGHT_CASE, "-n", "1"]) == 0
        output = capsys.readouterr().out
        assert "FAIL 0" not in output
        assert "1 x validates is not claimed" in output

    def test_nothing_judged_exits_with_2(self, capsys: pytest.CaptureFixture[str]) -> None:
        reference = f"{SUBJECTS / 'right.py'}:claims_nothing"
        code = main(["run", "--implementation", reference, "--case", RIGHT_CASE, "-n", "1"])
        assert code == 2
        captured = capsys.readouterr()
        assert "dtype bf16 is not claimed" in captured.out
        assert "nothing was judged" in captured.err

    def test_an_interrupt_kills_the_workers_and_keeps_what_was_written(
        self, tmp_path: Path
    ) -> None:
        reference = f"{SUBJECTS / 'misbehaving.py'}:hangs_and_leaves_a_trace"
        arguments = ["run", "--implementation", reference, "--report", str(tmp_path), "-n", "2"]
        hanging = "T1-H16-I16-E4-K2-bf16/uniform/random/contiguous/0"
        process = subprocess.Popen(
            [sys.executable, "-m", "moeproof.cli", *arguments, "--case", hanging, RIGHT_CASE],
            env={**os.environ, "PIDS": str(tmp_path / "pids")},
            stderr=subprocess.PIPE,
            text=True,
        )
        report = tmp_path / "report.partial.jsonl"
        deadline = time.monotonic() + 120.0
        while not ((tmp_path / "pids").exists() and RIGHT_CASE in report.read_text()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert errors == "moeproof run: interrupted\n"
        for pid in (tmp_path / "pids").read_text().split():
            assert not Path(f"/proc/{pid}/cwd").exists()
        assert main(["report", str(tmp_path)]) == 2
        assert not (tmp_path / "index.html").exists()

    def test_what_cannot_be_run_leaves_an_earlier_report_alone(self, tmp_path: Path) -> None:
        (tmp_path / "report.jsonl").write_text("of an earlier run")
        arguments = ["run", "--implementation", "vllm", "--case", RIGHT_CASE, "-n", "1"]
        assert main([*arguments, "--report", str(tmp_path)]) == 2
        assert (tmp_path / "report.jsonl").read_text() == "of an earlier run"


class TestReplay:
    def test_a_failure_is_told_in_full(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["replay", NAN_CASE, "--implementation", MISBEHAVING, "--check", "accuracy"]
        assert main(arguments) == 1
        output = capsys.readouterr().out
        assert "6 tokens, hidden size 16, intermediate size 16, 4 experts, top 2, bf16" in output
        assert "12 slots, 0 of them masked" in output
        assert output.count("\n  expert ") == 4
        assert "FAIL  accuracy" in output
        assert "worst: token 0, column 0, experts [" in output
        assert "wrong_elements = 96" in output

    def test_a_crash_shows_what_the_process_wrote(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["replay", EXIT_CASE, "--implementation", MISBEHAVING]
        assert main(arguments) == 1
        output = capsys.readouterr().out
        assert "the process wrote:\n    giving up\n" in output
        assert output.count("not judged: the process died in check accuracy") > 1

    def test_a_router_case_passes(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["replay", ROUTER_CASE, "--implementation", "torch_eager"]) == 0
        output = capsys.readouterr().out
        assert "softmax, renormalised" in output
        assert "PASS  routing" in output


class TestReport:
    def test_files_are_rendered_where_asked(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = ["run", "--implementation", "torch_eager", "--case", ROUTER_CASE, "-n", "1"]
        assert main([*run, "--report", str(tmp_path / "deep" / "report")]) == 0
        source = tmp_path / "deep" / "report" / "report.jsonl"
        html, junit = tmp_path / "page.html", tmp_path / "ci.xml"
        assert main(["report", str(source), "--html", str(html)]) == 0
        assert not junit.exists()
        assert main(["report", str(source.parent), "--junit", str(junit)]) == 0
        assert html.read_text() == (source.parent / "index.html").read_text()
        assert junit.read_text() == (source.parent / "junit.xml").read_text()

        capsys.readouterr()
        whole = source.read_text().splitlines(keepends=True)
        source.write_text("".join(whole[:-1]))
        assert main(["report", str(source)]) == 2
        assert "truncated" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["implementations", "profiles", "patterns", "checks", "models"])
def test_list_prints_names(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    known = {
        "implementations": "torch_eager",
        "profiles": "quick ",
        "patterns": "zipf ",
        "checks": "accuracy ",
        "models": "Mixtral-8x7B ",
    }
    assert main(["list", what]) == 0
    assert f"\n{known[what]}" in "\n" + capsys.readouterr().out


def test_list_alone_prints_every_choice_but_the_cases(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for section in ("implementations", "profiles", "patterns", "checks", "models"):
        assert f"{section}:\n" in printed
    assert "cases:" not in printed
    assert "Mixtral-8x7B" in printed


def test_list_cases_prints_ids_that_can_be_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    from moeproof.case_id import parse_case_id

    assert main(["list", "cases", "quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 100
    for line in lines:
        case_id, _, checks = line.partition("  ")
        assert parse_case_id(case_id).case_id == case_id
        assert checks


RUN = ("run", "--implementation", RIGHT)
LOAD = ("run", "-n", "1", "--case", RIGHT_CASE, "--implementation")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "required: COMMAND"),
        (("run",), "required: --implementation"),
        ((*RUN, "--frobnicate"), "unrecognized arguments: --frobnicate"),
        ((*RUN, "--device", "tpu"), "invalid choice: 'tpu' (choose from"),
        ((*LOAD, RIGHT, "--device", "rocm"), "device 'rocm': "),
        ((*RUN, "--profile", "slow"), "'slow' is unknown; allowed: quick, standard"),
        ((*RUN, "--profile", "quick", "--case", RIGHT_CASE), "not allowed with argument"),
        ((*RUN, "--case", "T5"), "case id 'T5' must look like PROBLEM/PATTERN"),
        ((*RUN, "--case", RIGHT_CASE.replace("uniform", "even")), "'even' is unknown; allowed: "),
        ((*RUN, "--case", RIGHT_CASE.replace("bf16", "fp8")), "dtype must be one of bf16"),
        ((*RUN, "-n", "0"), "-n: must be positive, got 0"),
        ((*RUN, "-n", "many"), "-n: must be a number or auto, got 'many'"),
        ((*RUN, "--timeout", "-1"), "--timeout: must be positive, got -1"),
        ((*RUN, "--report", __file__), f"--report {__file__}: cannot be written"),
        ((*LOAD, "vllm"), "allowed: an adapter ("),
        ((*LOAD, "no/such.py:f"), "file no/such.py does not exist"),
        ((*LOAD, "moeproof:__all__"), "moeproof:__all__ is of type list; needed is a function"),
        ((*LOAD, "no_such_module:f"), "module 'no_such_module' cannot be imported"),
        (
            ("replay", RIGHT_CASE, "--implementation", RIGHT, "--check", "routing"),
            "--check 'routing' does not apply to this case on device cpu; allowed: accuracy",
        ),
        (("list", "colours"), "invalid choice: 'colours'"),
        (("list", "cases"), "a PROFILE is needed after 'cases'"),
        (("list", "checks", "quick"), "allowed only there"),
        (("list", "cases", "slow"), "'slow' is unknown; allowed: quick"),
        (("report", "no/such/report"), "cannot be read"),
    ],
)
def test_bad_usage_exits_with_2_and_says_what_is_allowed(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as refusal:
        code = refusal.code
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_without_torch_a_command_that_needs_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None")
    result = subprocess.run(
        [sys.executable, "-m", "moeproof.cli", "list", "cases", "quick"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("moeproof list: error: torch is not installed")
    assert result.stderr.count("\n") == 1
