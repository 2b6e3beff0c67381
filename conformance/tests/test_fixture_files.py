"""The fixtures are found in a checkout and in an installed wheel, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from moeproof import fixture_files
from moeproof.fixture_files import fixtures_directory

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An empty package directory that the module believes to lie in."""
    package = tmp_path / "root" / "conformance" / "moeproof"
    package.mkdir(parents=True)
    monkeypatch.setattr(fixture_files, "__file__", str(package / "fixture_files.py"))
    return package


def test_the_checkout_has_them():
    assert fixtures_directory() == CHECKOUT / "fixtures"


def test_an_installed_package_has_them_inside(package):
    (package / "fixtures").mkdir()
    assert fixtures_directory() == package / "fixtures"


def test_missing_fixtures_are_an_error_that_names_both_places(package):
    with pytest.raises(FileNotFoundError) as error:
        fixtures_directory()
    for folder in (package / "fixtures", package.parents[1] / "fixtures"):
        assert str(folder) in str(error.value)
