"""``ci/soak.py``: any machine draws the same cases, and a journal goes on where it ended."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from moeproof.case import Case
from moeproof.case_id import parse_case_id
from moeproof.verdict import Outcome


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "soak.py"
    specification = importlib.util.spec_from_file_location("soak", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["soak"] = module
    specification.loader.exec_module(module)
    return module


def test_cases_are_drawn_by_their_number(soak):
    cases = [soak.random_case(turn) for turn in range(200)]
    assert cases == [soak.random_case(turn) for turn in range(200)]
    assert all(parse_case_id(case.case_id) == case for case in cases)
    experts = [case for case in cases if isinstance(case, Case)]
    assert len(experts) == 160
    assert len({case.pattern for case in experts}) > 20
    assert len({case.values for case in experts}) == len(type(experts[0].values))


def test_all_variants_of_a_kind_are_judged(soak):
    for turn in (1, 4):
        line = soak.judge_turn(turn)
        assert line["alarms"] == []
        assert line["verdicts"] >= 8


def test_a_refused_variant_is_a_false_alarm(soak, monkeypatch, capsys, tmp_path):
    refused = SimpleNamespace(outcome=Outcome.FAIL, message="wrong", figures={})
    monkeypatch.setattr(soak, "judge", lambda trial, check: refused)
    line = soak.judge_turn(1)
    assert len(line["alarms"]) == line["verdicts"]
    journal = tmp_path / "soak.jsonl"
    journal.write_text(json.dumps(line) + "\n")
    monkeypatch.setattr(sys, "argv", ["soak.py", "--minutes", "0", "--journal", str(journal)])
    assert soak.main() == 1
    assert f"{len(line['alarms'])} false alarms" in capsys.readouterr().out


def test_a_journal_goes_on(soak, tmp_path):
    journal = tmp_path / "soak.jsonl"
    assert soak.soak(journal, minutes=0.0).cases == 0
    first = soak.soak(journal, minutes=1e-4)
    second = soak.soak(journal, minutes=1e-4)
    assert first.cases >= 1
    assert second.cases > first.cases
    turns = [json.loads(line)["turn"] for line in journal.read_text().splitlines()]
    assert turns == list(range(second.cases))
    assert "| `tree` |" in soak.report(second)
