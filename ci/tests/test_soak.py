"""``ci/soak.py``: any machine draws the same cases, and a journal goes on where it ended."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from moeproof.case import Case
from moeproof.case_id import parse_case_id
from moeproof.judge import checks_for
from moeproof.rounding_profile import RoundingProfile
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


def test_fewer_variants_take_turns(soak):
    def judged(turn):
        return set(soak.judge_turn(turn, 3)["declared"])

    cases = [turn for turn in range(12) if isinstance(soak.random_case(turn), Case)]
    names = [judged(turn) for turn in cases]
    assert all(len(each) <= 3 for each in names)
    assert len(set().union(*names)) > 3


def test_a_refused_variant_is_a_false_alarm(soak, monkeypatch, capsys, tmp_path):
    refused = SimpleNamespace(
        outcome=Outcome.FAIL, message="wrong", figures={}, evidence={}, case_id="some case"
    )
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


def test_a_true_profile_that_is_ruled_out_is_a_false_alarm(soak, monkeypatch):
    right = soak.judge

    def forgetful(trial, check):
        verdict = right(trial, check)
        return replace(verdict, evidence={**verdict.evidence, "surviving": []})

    turn = next(turn for turn in count() if "rounding" in checks_for(soak.random_case(turn), "cpu"))
    assert soak.judge_turn(turn)["alarms"] == []
    monkeypatch.setattr(soak, "judge", forgetful)
    alarms = soak.judge_turn(turn)["alarms"]
    variants = sum(variant.kind == "experts" for variant in soak.VARIANTS.values())
    assert len(alarms) == variants
    assert "is ruled out" in alarms[0]


def test_a_wrong_declaration_is_a_false_alarm(soak, monkeypatch):
    turn = next(turn for turn in count() if "rounding" in checks_for(soak.random_case(turn), "cpu"))
    wrong = RoundingProfile("yes", "yes", "no", "no")
    monkeypatch.setitem(soak.VARIANTS, "tree", replace(soak.VARIANTS["tree"], rounding=wrong))
    alarms = soak.judge_turn(turn)["alarms"]
    assert [alarm.partition(":")[0] for alarm in alarms] == ["tree", "declared_tree"]


def test_processes_share_the_cases(soak, tmp_path):
    journals = [tmp_path / f"soak-{first}.jsonl" for first in range(2)]
    for first, journal in enumerate(journals):
        for _ in range(2):
            soak.soak(journal, minutes=1e-4, first=first, step=2)
    turns = [
        [json.loads(line)["turn"] for line in path.read_text().splitlines()] for path in journals
    ]
    for first, of_process in enumerate(turns):
        assert of_process == list(range(first, first + 2 * len(of_process), 2))
    tally = soak.read(*journals)
    assert tally.cases == sum(map(len, turns))
    with pytest.raises(ValueError, match="counted already"):
        soak.read(journals[0], journals[0])


def test_cases_are_large_enough_to_say_something(soak):
    cases = [case for turn in range(400) if isinstance(case := soak.random_case(turn), Case)]
    outputs = [case.problem.num_tokens * case.problem.hidden_size for case in cases]
    assert min(outputs) >= 16
    assert {1, 2} <= {case.problem.num_tokens for case in cases}
    assert {1, 2} <= {case.problem.hidden_size for case in cases}
    assert min(case.problem.intermediate_size for case in cases) == 3
