"""What the wheel holds: both packages and the fixtures, and nothing else of the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def files_below(folder: str) -> set[str]:
    """The files of one of the checkout's folders, relative to it, without Python's caches."""
    root = CHECKOUT / folder
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix() for path in paths if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_it_holds_both_packages_and_the_fixtures_and_nothing_else(wheel):
    expected = {
        target + name
        for source, target in (
            ("kernels/moe_dispatch", "moe_dispatch/"),
            ("conformance/moeproof", "moeproof/"),
            ("fixtures", "moeproof/fixtures/"),
        )
        for name in files_below(source)
    }
    assert {"moe_dispatch/py.typed", "moeproof/py.typed"} <= expected
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_its_entry_points_are_files_of_the_wheel(wheel):
    (path,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    entry_points = ConfigParser()
    entry_points.optionxform = str
    entry_points.read_string(wheel.read(path).decode())
    assert set(entry_points.sections()) == {"console_scripts", "moeproof.adapters", "pytest11"}
    modules = {
        target.partition(":")[0]
        for section in entry_points.sections()
        for target in entry_points[section].values()
    }
    files = {name.removesuffix(".py").replace("/", ".") for name in wheel.namelist()}
    assert modules <= files


def test_installing_it_brings_neither_torch_nor_triton(wheel):
    (path,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    required = [
        line
        for line in wheel.read(path).decode().splitlines()
        if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    assert required
    assert not [line for line in required if "torch" in line or "triton" in line]
