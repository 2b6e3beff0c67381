"""One hash for everything that decides a verdict: the suite's code, schema and fixtures."""

from __future__ import annotations

import hashlib
from pathlib import Path

from moeproof.fixture_files import fixtures_directory


def suite_hash() -> str:
    """sha256, in hexadecimal, of this installation's suite.

    The same in a checkout and in a wheel, and on every machine: the files are taken by their
    relative names, in sorted order.
    """
    return hash_of_files(_suite_files(Path(__file__).parents[1], fixtures_directory()))


def hash_of_files(files: dict[str, Path]) -> str:
    """sha256 of the names and contents of files, given by name."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        digest.update(f"{name}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _suite_files(package: Path, fixtures: Path) -> dict[str, Path]:
    code = {
        f"moeproof/{path.relative_to(package).as_posix()}": path
        for path in (*package.rglob("*.py"), package / "report" / "schema.json")
        if not path.is_relative_to(fixtures)  # a wheel's lie inside the package
    }
    return code | {
        f"fixtures/{path.relative_to(fixtures).as_posix()}": path
        for path in fixtures.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
