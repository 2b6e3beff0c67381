"""Every edit fits the kernels as they are now, and a copy is edited without the original."""

from __future__ import annotations

import importlib
import inspect
import itertools
from pathlib import Path

import pytest

from moeproof.faults import FAULTS
from moeproof.faults.kernel_edits import KERNEL_EDITS, PACKAGE
from moeproof.faults.kernel_edits.edited_package import (
    EditError,
    SourceEdit,
    load_edited,
    source_of,
)

NAMES = itertools.count()


def test_every_kernel_fault_has_an_edit() -> None:
    assert list(KERNEL_EDITS) == [f.name for f in FAULTS.values() if f.kind == "kernel"]


@pytest.mark.parametrize("name", KERNEL_EDITS)
def test_the_edit_still_applies(name: str) -> None:
    """Whoever changes what an edit looks for gives it another text that has the same bug."""
    edit = KERNEL_EDITS[name]
    source = source_of(PACKAGE, edit.module)
    edited = edit.apply(source)
    assert edited != source
    compile(edited, f"{edit.module}.py", "exec")


@pytest.mark.parametrize(("find", "count"), [("c =", 0), ("=", 2)])
def test_text_that_is_not_there_once_is_refused(find: str, count: int) -> None:
    with pytest.raises(EditError, match=f"holds {count} times"):
        SourceEdit("numbers", find, "").apply("a = 1\nb = 2\n")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"edited_for_test_{next(NAMES)}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("from .total import total\n")
    (folder / "total.py").write_text(
        "from .numbers import one\n\n\ndef total():\n    return one() + 1\n"
    )
    (folder / "numbers.py").write_text("def one():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_the_copy_alone_is_edited(package: str) -> None:
    edit = SourceEdit("numbers", "return 1", "return 10")
    copy = load_edited(package, edit, name=f"{package}_copy")
    assert copy.total() == 11
    assert importlib.import_module(package).total() == 2
    assert importlib.import_module(f"{package}_copy.numbers").one() == 10


def test_the_edited_source_is_found(package: str) -> None:
    """Triton compiles what ``inspect`` finds."""
    edit = SourceEdit("total", "one() + 1", "one() - 1")
    copy = load_edited(package, edit, name=f"{package}_copy")
    assert copy.total() == 0
    assert "one() - 1" in inspect.getsource(copy.total)


def test_a_name_that_is_taken_is_refused(package: str) -> None:
    edit = SourceEdit("numbers", "return 1", "return 10")
    with pytest.raises(ValueError, match="loaded already"):
        load_edited(package, edit, name="inspect")


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        source_of("no_such_package", "numbers")
