"""A kept failure is a readable file, and a case of the quick profile from then on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from moeproof import profiles
from moeproof.checks import CHECKS
from moeproof.regressions import Regression, read_regressions, regressions
from moeproof.verdict import Outcome

REGRESSION = Regression(
    case_id="T2-H4-I4-E3-K1-bf16/group_sizes:1+0+1/random/contiguous/0",
    check="accuracy",
    outcome="FAIL",
    what_was_wrong="the token of the last expert was read from the idle one",
    implementation="some_kernel 1.0",
    device="cuda",
    found_on="2026-02-28",
)


def test_a_file_is_read_back(tmp_path: Path) -> None:
    (tmp_path / REGRESSION.file_name).write_text(REGRESSION.to_json())
    assert read_regressions(tmp_path) == {REGRESSION.file_name: REGRESSION}
    assert REGRESSION.file_name.startswith("accuracy-")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"case_id": "nonsense"}, "must look like"),
        ({"seed": "7"}, "needs exactly case_id, check"),
        ({"found_on": 2026}, "must be a text"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(asdict(REGRESSION) | change))
    with pytest.raises(ValueError, match=rf"wrong\.json: no regression: .*{complaint}"):
        read_regressions(tmp_path)


def test_what_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text("{")
    with pytest.raises(ValueError, match=r"wrong\.json: no regression"):
        read_regressions(tmp_path)


def test_every_kept_failure_is_judged_by_the_quick_profile() -> None:
    planned = {entry.case.case_id: entry.checks for entry in profiles.plan("quick", "cpu")}
    assert regressions()
    for name, regression in regressions().items():
        assert name == regression.file_name
        assert regression.check in CHECKS
        assert Outcome(regression.outcome) in (Outcome.FAIL, Outcome.ERROR)
        assert planned[regression.case_id]
