"""A file is replaced as a whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeproof.report import write_whole


def test_the_new_text_replaces_the_old(tmp_path):
    path = tmp_path / "index.html"
    path.write_text("a longer old text")
    write_whole(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "index.html"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new" * 100_000 + "\udcff")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_while_replacing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "index.html"
    path.write_text("old")

    def fail(self: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_a_part(tmp_path, monkeypatch):
    path = tmp_path / "index.html"
    path.write_text("old")
    replace = Path.replace

    def look(self: Path, target: Path) -> Path:
        assert path.read_text() == "old"
        assert self.read_text() == "new"
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", look)
    write_whole(path, "new")
    assert path.read_text() == "new"
