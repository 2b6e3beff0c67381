"""``moeproof certify`` and ``moeproof verify``, on a short must-pass list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moeproof import certification_list, profiles
from moeproof.case import Case
from moeproof.case_id import parse_case_id
from moeproof.certification_list import (
    CertificationListError,
    certification_case_ids,
    certification_cases,
)
from moeproof.cli import main
from moeproof.number_format import STORAGE_FORMATS
from moeproof.profiles import PROFILES, Profile, plan

RIGHT = f"{Path(__file__).parents[1] / 'subjects' / 'right.py'}:fused_experts"
CASES = [f"T{tokens}-H16-I16-E4-K2-bf16/uniform/random/contiguous/0" for tokens in (1, 2)]
CERTIFY = ["certify", "--implementation", RIGHT, "-n", "1", "--output"]
WAIVERS = [
    {"check": "rejects", "cases": "*", "reason": "arguments are checked by the caller"},
    {"check": "determinism", "cases": "*", "reason": "not needed here"},
]


@pytest.fixture(autouse=True)
def short_list(monkeypatch: pytest.MonkeyPatch) -> None:
    short = Profile("certification", "short", lambda device: map(parse_case_id, CASES))
    monkeypatch.setitem(profiles.PROFILES, "certification", short)


@pytest.fixture
def waivers(tmp_path: Path) -> Path:
    path = tmp_path / "waivers.json"
    path.write_text(json.dumps(WAIVERS))
    return path


def test_what_is_not_claimed_is_not_certified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package"
    assert main([*CERTIFY, str(package)]) == 1
    output = capsys.readouterr().out
    assert "NOT CERTIFIED\n" in output
    assert f"determinism: 2 UNSUPPORTED, first {CASES[0]}: deterministic is not claimed" in output
    assert main(["verify", str(package)]) == 1
    assert not (tmp_path / "package.run").exists()


def test_waivers_are_named_and_tampering_is_seen(
    tmp_path: Path, waivers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package.zip"
    assert main([*CERTIFY, str(package), "--waivers", str(waivers)]) == 0
    seal = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("seal: "))
    assert main(["verify", str(package)]) == 0
    output = capsys.readouterr().out
    assert "CERTIFIED WITH WAIVERS\n" in output
    assert "waived: 2 verdicts of determinism in *: not needed here" in output
    assert seal in output

    content = bytearray(package.read_bytes())
    content[len(content) // 2] ^= 1
    package.write_bytes(content)
    assert main(["verify", str(package)]) == 2
    assert f"moeproof verify: error: {package}: " in capsys.readouterr().err


def test_nothing_is_overwritten(
    tmp_path: Path, waivers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    assert main([*CERTIFY, str(package)]) == 2
    assert "exists already" in capsys.readouterr().err
    waivers.write_text(json.dumps([{**WAIVERS[0], "check": "reject"}]))
    assert main([*CERTIFY, str(tmp_path / "new"), "--waivers", str(waivers)]) == 2
    assert "check 'reject', cases '*': no verdict of the list" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


class TestList:
    def test_it_is_the_one_of_this_version(self) -> None:
        everywhere = certification_case_ids("cpu")
        on_gpus = certification_case_ids("rocm")
        assert len(everywhere) == 1493
        assert len(on_gpus) == 1607
        assert certification_case_ids("cuda") == on_gpus
        assert on_gpus[: len(everywhere)] == everywhere
        assert len(set(on_gpus)) == len(on_gpus)

    def test_its_ids_are_cases_of_every_kind(self) -> None:
        cases = certification_cases("cuda")
        assert [case.case_id for case in cases] == certification_case_ids("cuda")
        experts = [case for case in cases if isinstance(case, Case)]
        assert {case.problem.dtype for case in experts} == set(STORAGE_FORMATS)
        assert len(cases) - len(experts) > 100
        assert len({case.pattern.partition(":")[0] for case in experts}) > 20

    def test_a_list_that_was_edited_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "certification"
        folder.mkdir()
        ids = certification_case_ids("cpu")
        (folder / "every_device.txt").write_text("\n".join([*ids[:-1], ""]))
        monkeypatch.setattr(certification_list, "fixtures_directory", lambda: tmp_path)
        with pytest.raises(CertificationListError, match=r"every_device\.txt: its digest is"):
            certification_case_ids("cpu")


def test_the_profile_is_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert PROFILES["certification"].cases is certification_cases
    planned = [item.case.case_id for item in plan("certification", "cpu")]
    assert planned == certification_case_ids("cpu")
