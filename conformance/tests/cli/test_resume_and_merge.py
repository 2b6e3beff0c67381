"""Runs that are cut, go on, are split and joined: no verdict is lost, none comes twice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from moeproof.case_id import parse_case_id
from moeproof.cli import main
from moeproof.judge import checks_for
from moeproof.report import read_report
from moeproof.report.folder_lock import folder_lock

SUBJECTS = Path(__file__).parents[1] / "subjects"
RIGHT = f"{SUBJECTS / 'right.py'}:fused_experts"
CASES = [f"T{tokens}-H16-I16-E4-K2-bf16/uniform/random/contiguous/0" for tokens in range(1, 9)]
RUN = ["run", "--implementation", RIGHT, "-n", "1", "--case", *CASES]
PLANNED = {(case, check) for case in CASES for check in checks_for(parse_case_id(case), "cpu")}


def verdict_lines(path: Path) -> list[tuple[str, str]]:
    """Case and check of each whole line."""
    text = path.read_text()
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [(line["case_id"], line["check"]) for line in lines if line["kind"] == "verdict"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was not cut."""
    folder = tmp_path_factory.mktemp("whole")
    assert main([*RUN, "--report", str(folder)]) == 0
    return folder


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    partial = tmp_path / "report.partial.jsonl"
    before = 0
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-m", "moeproof.cli", *RUN, "--report", str(tmp_path), "--resume"],
            stdout=subprocess.DEVNULL,
        ) as process:
            deadline = time.monotonic() + 120
            while not (partial.exists() and len(verdict_lines(partial)) > before + 2):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.002)
            process.kill()
        before = len(verdict_lines(partial))
        assert main(["report", str(tmp_path)]) == 2
    with partial.open("a") as file:
        file.write('{"kind":"verd')
    assert before < len(PLANNED)
    assert main([*RUN, "--report", str(tmp_path), "--resume"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"report.jsonl", "index.html", "junit.xml"}
    assert Counter(verdict_lines(tmp_path / "report.jsonl")) == Counter(PLANNED)
    read_report(tmp_path / "report.jsonl")


def test_a_whole_run_is_not_judged_again(whole: Path) -> None:
    before = files(whole)
    assert main([*RUN, "--report", str(whole), "--resume"]) == 0
    assert files(whole) == before


def test_a_run_that_was_cut_before_its_pages_were_in_place(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "report.partial.jsonl").write_bytes((whole / "report.jsonl").read_bytes())
    assert main([*RUN, "--report", str(tmp_path), "--resume"]) == 0
    assert files(tmp_path) == files(whole)


@pytest.mark.parametrize(
    ("arguments", "difference"),
    [
        (["--implementation", "torch_eager"], "implementation: .*torch_eager"),
        (["--shard", "1/1"], "shard: none and 1/1"),
        (["--case", CASES[0].replace("T1-", "T11-")], "the planned cases and checks"),
    ],
)
def test_another_run_is_not_gone_on_with(
    whole: Path,
    tmp_path: Path,
    arguments: list[str],
    difference: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = (whole / "report.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "report.partial.jsonl").write_text("".join(lines[:5]))
    before = files(tmp_path)
    assert main([*RUN, "--report", str(tmp_path), "--resume", *arguments]) == 2
    assert "of another run; they differ in" in (errors := capsys.readouterr().err)
    assert re.search(difference, errors)
    assert files(tmp_path) == before


@pytest.mark.parametrize("field", ["suite_hash", "device", "profile", "implementation_version"])
def test_another_versions_run_is_not_gone_on_with(
    whole: Path, tmp_path: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *lines = (whole / "report.jsonl").read_text().splitlines()
    edited = json.loads(header)
    edited["metadata"][field] = "ab" * 32
    text = "\n".join([json.dumps(edited), *lines[:3], ""])
    (tmp_path / "report.partial.jsonl").write_text(text)
    assert main([*RUN, "--report", str(tmp_path), "--resume"]) == 2
    assert f"differ in {field}: {'ab' * 32} and" in capsys.readouterr().err
    assert (tmp_path / "report.partial.jsonl").read_text() == text


def test_a_damaged_run_is_not_gone_on_with(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (whole / "report.jsonl").read_text().splitlines(keepends=True)
    text = "".join([*lines[:3], "half a li\n", *lines[3:5]])
    (tmp_path / "report.partial.jsonl").write_text(text)
    assert main([*RUN, "--report", str(tmp_path), "--resume"]) == 2
    assert "line 4: not JSON" in capsys.readouterr().err
    assert (tmp_path / "report.partial.jsonl").read_text() == text


def test_resume_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--resume"]) == 2
    assert "--resume needs --report" in capsys.readouterr().err


def test_two_runs_into_one_folder(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.jsonl").write_bytes((whole / "report.jsonl").read_bytes())
    with folder_lock(tmp_path):
        before = files(tmp_path)
        assert main([*RUN, "--report", str(tmp_path)]) == 2
        assert "another run is writing there" in capsys.readouterr().err
        assert files(tmp_path) == before


def test_shards_join_to_the_whole_run(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / str(index) for index in (1, 2, 3)]
    for index, folder in enumerate(folders, start=1):
        assert main([*RUN, "--shard", f"{index}/3", "--report", str(folder)]) == 0
    assert "shard 2 of 3" in (folders[1] / "index.html").read_text()
    merged = tmp_path / "merged"
    merge = ["merge", *map(str, folders), "--report"]
    assert main([*merge, str(merged)]) == 0
    report, expected = read_report(merged / "report.jsonl"), read_report(whole / "report.jsonl")
    assert Counter(verdict_lines(merged / "report.jsonl")) == Counter(PLANNED)
    assert report.header.plan_digest == expected.header.plan_digest
    assert report.metadata == expected.metadata
    assert "shard 2 of 3" not in (merged / "index.html").read_text()

    before = files(merged)
    for arguments, message in (
        (["merge", str(folders[0]), str(folders[2]), "--report", str(merged)], "missing: 2/3"),
        (["merge", *[str(folders[0])] * 2, "--report", str(merged)], "given twice"),
        ([*merge, str(folders[1])], "one of the shards"),
        (["merge", *map(str, folders), str(whole), "--report", str(merged)], "is no shard"),
    ):
        capsys.readouterr()
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    source = folders[1] / "report.jsonl"
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:-1]))
    assert main([*merge, str(merged)]) == 2
    assert "truncated" in capsys.readouterr().err
    assert files(merged) == before


@pytest.mark.parametrize("text", ["0/2", "3/2", "x"])
def test_a_wrong_shard_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([*RUN, "--shard", text])
    assert leaving.value.code == 2
    assert "shard must be INDEX/COUNT" in capsys.readouterr().err


class TestCompare:
    def test_equal_runs(
        self, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        html, markdown = tmp_path / "page.html", tmp_path / "summary.md"
        arguments = ["--html", str(html), "--markdown", str(markdown)]
        assert main(["compare", str(whole), str(whole / "report.jsonl"), *arguments]) == 0
        assert "\nOne class\n" in capsys.readouterr().out
        assert "One class" in html.read_text()
        assert markdown.read_text().startswith("## moeproof: one class\n")

    def test_what_was_upgraded_and_what_is_broken_before_and_after(
        self, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = [json.loads(line) for line in (whole / "report.jsonl").read_text().splitlines()]
        accuracy = next(line for line in lines[1:] if line["check"] == "accuracy")
        accuracy["verdict"] = "FAIL"
        lines[-1]["counts"]["PASS"] -= 1
        lines[-1]["counts"]["FAIL"] += 1
        for name, version in (("before", "6.4"), ("after", "7.0")):
            lines[0]["metadata"]["device_description"]["runtime"] = f"ROCm {version}"
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        assert main(["compare", str(tmp_path / "before.jsonl"), str(path)]) == 0
        output = capsys.readouterr().out
        assert "\n  device_description.runtime: ROCm 6.4 and ROCm 7.0\n" in output
        assert "verdicts have the same outcome, 1 of them FAIL or ERROR; " in output

    def test_a_verdict_that_changed(
        self, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = [json.loads(line) for line in (whole / "report.jsonl").read_text().splitlines()]
        accuracy = next(line for line in lines[1:] if line["check"] == "accuracy")
        accuracy["verdict"] = "FAIL"
        lines[-1]["counts"]["PASS"] -= 1
        lines[-1]["counts"]["FAIL"] += 1
        other = tmp_path / "other.jsonl"
        other.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        assert main(["compare", str(whole), str(other)]) == 1
        output = capsys.readouterr().out
        assert (
            "Not one class\n  accuracy, bf16, random: 1 of 8 verdicts went from PASS to FAIL"
            in (output)
        )

    def test_what_cannot_be_compared(
        self, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        page = tmp_path / "page.html"
        page.write_text("mine")
        text = (whole / "report.jsonl").read_text()
        other = tmp_path / "other.jsonl"
        lines = text.splitlines(keepends=True)
        header = json.loads(lines[0])
        suite = header["metadata"]["suite_hash"]
        for damaged, message in (
            (text.replace(suite, "0" * 64), "different suites: suite_hash"),
            ("".join(lines[:-1]), "truncated"),
            ("".join([*lines[:3], *lines[4:]]), "verdicts were planned"),
            ("", "truncated"),
        ):
            other.write_text(damaged)
            assert main(["compare", str(whole), str(other), "--html", str(page)]) == 2
            assert message in capsys.readouterr().err
            assert page.read_text() == "mine"
        assert main(["compare", str(whole), str(tmp_path / "none")]) == 2
