"""``docs/proof.md`` knows every fault and variant, and its figure's rules are what they say."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest

from moeproof.faults import FAULTS
from moeproof.faults.known_catches import KnownCatch
from moeproof.faults.matrix import result_of
from moeproof.report.fault_matrix import Catch
from moeproof.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
ON_CPU = [name for name, fault in FAULTS.items() if "cpu" in fault.devices]
FIGURE = runpy.run_path(str(ROOT / "docs" / "figures" / "ordinary_tolerances.py"))


@pytest.fixture
def proof(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """``ci/proof.py``, writing below ``tmp_path``."""
    monkeypatch.syspath_prepend(str(ROOT / "ci"))
    specification = importlib.util.spec_from_file_location("proof", ROOT / "ci" / "proof.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.DOCUMENT = tmp_path / "proof.md"
    return module


@pytest.mark.parametrize("name", [*FAULTS, *VARIANTS])
def test_the_document_has_a_row(name):
    assert f"\n| `{name}` | " in DOCUMENT


def test_the_document_misses_no_fault():
    assert f"{len(ON_CPU)} of {len(ON_CPU)} faults are caught." in DOCUMENT
    assert "**not caught**" not in DOCUMENT


def test_a_missed_fault_fails(proof, monkeypatch, tmp_path, capsys):
    caught, missed, kernel = FAULTS["gelu"], FAULTS["ties_to_higher_id"], "kernel_silu_overflows"
    catch = Catch("accuracy", "a case", "wrong", 1, 0.5)
    faults = {fault.name: fault for fault in (caught, missed, FAULTS[kernel])}

    def judged(fault):
        return result_of(fault, () if fault is missed else (catch,), 1, 0.5)

    def in_torch(faults, planned, device, *, journal):
        return [proof.ablation.FullResult(judged(fault), frozenset()) for fault in faults]

    kept = {}
    monkeypatch.setattr(proof, "FAULTS", faults)
    monkeypatch.setattr(proof.ablation, "full_results", in_torch)
    monkeypatch.setattr(proof.FaultRun, "judge", lambda *a, **k: iter([judged(FAULTS[kernel])]))
    monkeypatch.setattr(proof, "fault_matrix", lambda *_: iter([]))
    monkeypatch.setattr(proof, "write_known_catches", kept.update)
    proof.DOCUMENT.write_text("before\n<!-- faults -->\nold\n<!-- end of faults -->\nafter\n")
    monkeypatch.setattr(sys, "argv", ["proof.py", "faults"])
    assert proof.main() == 1
    assert f"not caught: {missed.name}" in capsys.readouterr().err
    written = proof.DOCUMENT.read_text()
    assert written.startswith("before\n<!-- faults -->\n2 of 3 faults are caught. By the suite `")
    assert "First caught after 0.50 s (median) and 0.5 s (most)" in written
    assert written.endswith("<!-- end of faults -->\nafter\n")
    assert "old" not in written
    assert kept == {
        caught.name: KnownCatch("accuracy", "a case"),
        kernel: KnownCatch("accuracy", "a case"),
    }


def answer(actual, truth=(1.0, -2.0, 0.0), baseline=(1.0, -2.0, 0.01)):
    return FIGURE["Answer"](*(np.array([values]) for values in (actual, truth, baseline)))


@pytest.mark.parametrize(
    ("rule", "accepted", "refused"),
    [
        ("atol = rtol = 5e-2", (1.0, -2.14, 0.0), (1.0, -2.16, 0.0)),
        ("atol = 2e-2", (1.0, -2.019, 0.0), (1.0, -2.021, 0.0)),
        ("atol = rtol = 1e-2", (1.0, -2.029, 0.0), (1.0, -2.031, 0.0)),
        ("cosine 1e-3", (1.0, -2.0, 0.1), (1.0, -2.0, 0.101)),
        ("2 x baseline", (1.0, -2.019, 0.0), (1.0, -2.021, 0.0)),
        ("max 2e-2 and RMS 4e-3", (1.0, -2.013, 0.0), (1.0, -2.015, 0.0)),
        ("max 2e-2 and RMS 4e-3", (1.0, -2.0, 0.0), (1.0, -2.0, np.nan)),
    ],
)
def test_rules(rule, accepted, refused):
    assert FIGURE["RULES"][rule](answer(accepted))
    assert not FIGURE["RULES"][rule](answer(refused))


def test_the_figure_is_well_formed():
    image = ElementTree.parse(ROOT / "docs" / "figures" / "ordinary_tolerances.svg").getroot()
    texts = [element.text for element in image.iter("{http://www.w3.org/2000/svg}text")]
    assert {*FIGURE["RULES"], FIGURE["ACCURACY"], FIGURE["QUICK"]} <= set(texts)
