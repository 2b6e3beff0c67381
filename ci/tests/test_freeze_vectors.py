"""``ci/freeze_vectors.py`` writes what is in the repository, and notices what is not."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "ci" / "freeze_vectors.py"))


def run(script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, action: str, folder: Path) -> int:
    main = script["main"]
    monkeypatch.setitem(main.__globals__, "VECTORS", folder)
    monkeypatch.setattr(sys, "argv", ["freeze_vectors.py", action])
    return int(main())


def test_the_repository_is_up_to_date(script, monkeypatch):
    assert run(script, monkeypatch, "check", ROOT / "fixtures" / "vectors") == 0


def test_a_change_is_noticed_and_written_anew(script, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "vectors"
    shutil.copytree(ROOT / "fixtures" / "vectors", folder)
    changed = next(folder.glob("*.npy"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x7f")
    (folder / "left_over.npy").write_bytes(b"")
    assert run(script, monkeypatch, "check", folder) == 1
    complaints = capsys.readouterr().err
    assert changed.name in complaints
    assert "left_over.npy" in complaints
    assert run(script, monkeypatch, "write", folder) == 0
    assert run(script, monkeypatch, "check", folder) == 0
