"""No case of a profile would let a gross error pass; if one did, ``ci/blindness.py`` would fail."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from moeproof import trial as trials
from moeproof.case import Case, ValueFamily
from moeproof.inputs import make_inputs
from moeproof.problem import Problem

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``ci/blindness.py``."""
    monkeypatch.syspath_prepend(str(ROOT / "ci"))
    path = ROOT / "ci" / "blindness.py"
    specification = importlib.util.spec_from_file_location("blindness_script", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their module up while they are made.
    monkeypatch.setitem(sys.modules, "blindness_script", module)
    specification.loader.exec_module(module)
    return module


def test_no_case_of_quick_and_standard_is_blind(script):
    found = script.survey(script.planned_cases("standard"))
    assert found.blind == []
    assert found.cases > 1400
    # Where nothing can be refused there is no token.
    assert all(case_id.startswith(("T0-", "route-T0-")) for case_id in found.silent)
    assert all(tally.judgements["refused"] > 0 for tally in found.tallies.values())
    assert len(found.tallies) == 17


CASES = [
    Case(Problem(9, 24, 20, 4, 2, dtype), "uniform", family)
    for dtype in ("bf16", "fp16", "fp32")
    for family in (ValueFamily.RANDOM, ValueFamily.CANCELLING, ValueFamily.EXACT_UP)
]


def run_quick(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(script, "planned_cases", lambda profile: CASES)
    monkeypatch.setattr(sys, "argv", ["blindness.py", "--quick"])
    return int(script.main())


def test_sound_cases_pass(script, monkeypatch):
    assert run_quick(script, monkeypatch) == 0


def test_outputs_that_are_too_small_fail(script, monkeypatch, capsys):
    """fp16's subnormal numbers are 2**-24 apart, so zero is right for a millionth of one."""

    def small(case):
        made = make_inputs(case)
        return replace(made, topk_weights=made.topk_weights * np.float32(2.0**-30))

    monkeypatch.setattr(trials, "make_inputs", small)
    assert run_quick(script, monkeypatch) == 1
    complaints = capsys.readouterr().err
    assert "BLIND T9-H24-I20-E4-K2-fp16/uniform/random/contiguous/0: " in complaints
    assert "zeros everywhere would pass (accuracy where nothing is declared)" in complaints
    assert "fp32/uniform/random" not in complaints


def test_bounds_that_are_too_wide_fail(script, monkeypatch, capsys):
    interval_of = trials.expert_interval

    def wide(*arguments, **rules):
        interval = interval_of(*arguments, **rules)
        size = np.abs(interval.centre).max(axis=1, keepdims=True)
        return replace(interval, lower=interval.lower - size, upper=interval.upper + size)

    monkeypatch.setattr(trials, "expert_interval", wide)
    assert run_quick(script, monkeypatch) == 1
    assert "accuracy where nothing is declared" in capsys.readouterr().err


def test_a_call_that_is_compared_with_itself_fails(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "other_inputs", lambda inputs: inputs)
    assert run_quick(script, monkeypatch) == 1
    assert "the output of another call would pass" in capsys.readouterr().err


def test_counts_are_of_judgements_and_instances(script):
    tally = script.Tally()
    for counts in ((3, 1, 0, 0, 0), (0, 1, 0, 2, 0), (5, 0, 0, 0, 1), (0, 0, 0, 0, 0)):
        tally.add(script.Sight("a corruption", *counts))
    assert tally.judgements == {"refused": 1, "small": 1, "blind": 1, "idle": 1}
    assert tally.instances == {"refused": 8, "idle": 2, "unjudged": 0, "small": 2, "blind": 1}
