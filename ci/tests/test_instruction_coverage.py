"""``ci/instruction_coverage.py``: an instruction that no test of the emulator covers is named."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
_TESTED = {
    "v_add_f32": 3,
    "v_dual_mul_f32::v_dual_mov_b32": 2,
    "v_mfma_f32_32x32x8_bf16": 8,
    "global_load_dwordx4": 4,
    "v_readfirstlane_b32": 1,
    "v_div_fmas_f32": 1,
    "s_endpgm": 1,
    "s_nop": 5,
}


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, with a page of its own."""
    path = ROOT / "ci" / "instruction_coverage.py"
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, path.stem, module)
    specification.loader.exec_module(module)
    module.PAGE = tmp_path / "emulation.md"
    return module


def check(coverage: ModuleType, monkeypatch: pytest.MonkeyPatch, *binaries: object) -> None:
    """Run the command on a report of these binaries: (GPU, instructions) each."""
    folder = coverage.PAGE.parent
    kernels = [
        {"kind": "kernel", "configuration": {"target": gpu}, "opcodes": opcodes}
        for gpu, opcodes in binaries
    ]
    lines = [{"kind": "header"}, *kernels, {"kind": "footer"}]
    (folder / "targets.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    monkeypatch.setattr(sys, "argv", ["instruction_coverage.py", "check", str(folder)])
    coverage.main()


def test_a_report_whose_instructions_are_tested(
    coverage: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = [("gfx942", _TESTED), ("gfx942", _TESTED)]
    check(coverage, monkeypatch, ("sm_90", None), *twice)
    *_, row = capsys.readouterr().out.splitlines()
    # Kernels; instructions; different ones; vectors; memory, matrix, lanes; flow; programs.
    assert row == "| gfx942 | 2 | 54 | 9 | 3 | 3 | 2 | 1 | none |"


@pytest.mark.parametrize(
    ("module", "table", "name"),
    [
        ("opcode_vectors", "VECTORS", "v_add_f32"),
        ("test_instructions", "REFERENCES", "v_med3_i32"),
    ],
)
def test_a_vector_that_is_removed_is_missed(
    coverage: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    table: str,
    name: str,
) -> None:
    binaries = "gfx942", {**_TESTED, name: 1}
    check(coverage, monkeypatch, binaries)
    monkeypatch.delitem(getattr(sys.modules[module], table), name)
    with pytest.raises(SystemExit, match=f"no test of the emulator covers {name}: see"):
        check(coverage, monkeypatch, binaries)


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("gfx942", "v_mfma_f32_4x4x4_16b_f16"),
        ("gfx90a", "v_mfma_f32_32x32x16_fp8_fp8"),
        ("gfx1201", "v_dual_nothing::v_dual_mov_b32"),
    ],
)
def test_an_instruction_without_a_test_is_named(
    coverage: ModuleType, monkeypatch: pytest.MonkeyPatch, arch: str, name: str
) -> None:
    untested = coverage.alone(name)[0]
    with pytest.raises(SystemExit, match=f"no test of the emulator covers {untested}: see"):
        check(coverage, monkeypatch, ("gfx942", _TESTED), (arch, {name: 1}))


def test_binaries_that_were_not_decoded_are_not_tested_ones(
    coverage: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"were not decoded, which takes Python 3\.11"):
        check(coverage, monkeypatch, ("gfx942", None))
    check(coverage, monkeypatch, ("sm_90", None))
    assert "no AMD GPU was compiled for" in capsys.readouterr().out
