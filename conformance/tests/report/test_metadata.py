"""Metadata are plain, complete, and the suite's hash changes with what decides a verdict."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

import pytest

from moeproof.devices import Device
from moeproof.report import Package, RunMetadata, collect_metadata, metadata
from moeproof.report.suite_hash import _suite_files, hash_of_files, suite_hash


@pytest.fixture
def collect():
    def collect(device: str = "cpu") -> RunMetadata:
        return collect_metadata(
            implementation="torch_eager", version="1.2", device=Device(device), profile="quick"
        )

    return collect


def test_what_the_run_was_made_with(collect):
    found = collect()
    assert (found.implementation, found.implementation_version) == ("torch_eager", "1.2")
    assert (found.device, found.profile) == ("cpu", "quick")
    assert set(found.device_description) == {"name", "architecture", "memory", "driver", "runtime"}
    assert Package("torch", "torch", installed_version("torch")) in found.packages
    assert found.suite_version == installed_version("moeproof")
    assert found.suite_hash == suite_hash()


def test_plain_values_that_pickle_and_fit_json(collect):
    found = collect()
    assert pickle.loads(pickle.dumps(found)) == found
    json.dumps(asdict(found))


@pytest.mark.parametrize("installed", [["triton-rocm"], ["triton", "triton-rocm"], []])
def test_the_distributions_that_provide_triton(collect, monkeypatch, installed):
    """Two of them are one installed over the other: both are named."""

    def version(distribution: str) -> str:
        if "triton" in distribution and distribution not in installed:
            raise PackageNotFoundError(distribution)
        return "3.6.0"

    monkeypatch.setattr(metadata, "installed_version", version)
    found = [package for package in collect().packages if package.module == "triton"]
    assert found == [Package("triton", distribution, "3.6.0") for distribution in installed]


def test_flags_are_those_the_implementation_sees(collect, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "2")
    monkeypatch.setenv("HSA_OVERRIDE_GFX_VERSION", "9.4.2")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    monkeypatch.setenv("SECRET", "xyzzy")
    flags = collect().environment
    assert flags["TRITON_INTERPRET"] == "1"
    assert flags["HIP_VISIBLE_DEVICES"] == "2"
    assert flags["HSA_OVERRIDE_GFX_VERSION"] == "9.4.2"
    assert flags["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert "SECRET" not in flags


class TestSuiteHash:
    @pytest.fixture
    def checkout(self, tmp_path: Path) -> tuple[Path, Path]:
        package, fixtures = tmp_path / "conformance" / "moeproof", tmp_path / "fixtures"
        return _lay_out(package, fixtures)

    def test_a_wheel_and_a_checkout_agree(self, checkout, tmp_path):
        package = tmp_path / "site-packages" / "moeproof"
        wheel = _lay_out(package, package / "fixtures")
        assert _hash(wheel) == _hash(checkout)

    @pytest.mark.parametrize(
        "name",
        [
            "conformance/moeproof/checks/accuracy.py",
            "conformance/moeproof/report/schema.json",
            "fixtures/routing/one_fault.json",
        ],
    )
    def test_every_file_counts(self, checkout, tmp_path, name):
        before = _hash(checkout)
        (tmp_path / name).write_text("changed")
        assert _hash(checkout) != before

    def test_a_name_counts(self, checkout, tmp_path):
        before = _hash(checkout)
        accuracy = tmp_path / "conformance/moeproof/checks/accuracy.py"
        accuracy.rename(accuracy.with_name("exact.py"))
        assert _hash(checkout) != before

    def test_what_a_run_leaves_behind_does_not_count(self, checkout, tmp_path):
        before = _hash(checkout)
        for folder in ("conformance/moeproof", "fixtures/routing"):
            cache = tmp_path / folder / "__pycache__"
            cache.mkdir()
            (cache / "case.cpython-312.pyc").write_bytes(b"\0")
        assert _hash(checkout) == before

    def test_the_order_in_which_files_are_found_does_not_count(self, checkout):
        files = _suite_files(*checkout)
        assert hash_of_files(dict(reversed(files.items()))) == hash_of_files(files)

    def test_this_installation_has_one(self):
        assert len(suite_hash()) == 64
        assert suite_hash() == suite_hash()


def _lay_out(package: Path, fixtures: Path) -> tuple[Path, Path]:
    files = {
        package / "case.py": "case",
        package / "checks" / "accuracy.py": "accuracy",
        package / "report" / "schema.json": "{}",
        package / "report" / "templates" / "index.html.j2": "page",
        fixtures / "routing" / "one_fault.json": "[]",
        fixtures / "vectors" / "make.py": "make",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package, fixtures


def _hash(installation: tuple[Path, Path]) -> str:
    return hash_of_files(_suite_files(*installation))
