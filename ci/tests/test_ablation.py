"""What is lost with a part of the profile, and a journal that a cut run goes on from."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from moeproof.case_id import parse_case_id
from moeproof.devices import Device
from moeproof.faults import FAULTS
from moeproof.planned_case import PlannedCase

CPU = Device("cpu")
UNIFORM = "T9-H24-I20-E4-K2-fp32/uniform/random/contiguous/0"
MASKED = "T9-H24-I20-E4-K2-fp32/masked_slots/random/contiguous/0"
ROUTER = "route-T5-E8-K2-softmax-renormalized-fp32/normal/0"
PLANNED = [
    PlannedCase(parse_case_id(UNIFORM), ("accuracy", "memory")),
    PlannedCase(parse_case_id(MASKED), ("accuracy",)),
    PlannedCase(parse_case_id(ROUTER), ("routing",)),
]
CHOSEN = [FAULTS["gelu"], FAULTS["masked_taken_as_first"], FAULTS["never_normalised"]]


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    return importlib.import_module("ablation")


@pytest.fixture
def results(ablation: ModuleType, tmp_path: Path) -> list:
    return ablation.full_results(CHOSEN, PLANNED, CPU, journal=tmp_path / "journal.jsonl")


def test_all_that_catches_a_fault_is_known(results: list) -> None:
    gelu, masked, router = results
    assert gelu.pairs == {(UNIFORM, "accuracy"), (UNIFORM, "memory"), (MASKED, "accuracy")}
    assert masked.pairs == {(MASKED, "accuracy")}
    assert router.pairs == {(ROUTER, "routing")}
    assert [(c.check, c.cases) for c in gelu.result.catches] == [("accuracy", 1), ("memory", 1)]


def test_a_part_that_alone_catches_a_fault_loses_it(ablation: ModuleType, results: list) -> None:
    found = {(loss.part.kind, loss.part.name): loss for loss in ablation.losses(results, PLANNED)}
    assert found["routing pattern", "masked_slots"].slipped == ("masked_taken_as_first",)
    assert found["routing pattern", "uniform"].slipped == ()
    assert found["routing pattern", "uniform"].cells == 1
    assert found["check", "accuracy"].slipped == ("masked_taken_as_first",)
    assert found["check", "accuracy"].cells == 2
    assert found["check", "memory"].catches == pytest.approx(1 / 5)
    assert found["logit family", "normal"].slipped == ("never_normalised",)
    assert found["value family", "random"].share == pytest.approx(3 / 4)
    table = ablation.as_markdown(list(found.values()))
    assert "| masked_slots | 25.0% | 1: `masked_taken_as_first` | 1 | 40.0% |" in table
    assert ablation.redundant(list(found.values())) == []


def test_a_cut_run_goes_on(
    ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal.jsonl"
    before = ablation.full_results(CHOSEN[:2], PLANNED, CPU, journal=journal)
    judged = []
    judge = ablation._judge
    monkeypatch.setattr(
        ablation, "_judge", lambda fault, *rest: judged.append(fault.name) or judge(fault, *rest)
    )
    after = ablation.full_results(CHOSEN, PLANNED, CPU, journal=journal)
    assert judged == ["never_normalised"]
    assert after[:2] == before
    monkeypatch.setattr(ablation, "suite_hash", lambda: "another")
    ablation.full_results(CHOSEN[:1], PLANNED, CPU, journal=journal)
    assert judged == ["never_normalised", "gelu"]
