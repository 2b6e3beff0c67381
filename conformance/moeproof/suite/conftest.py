"""One test for each check of each case of the profile."""

from __future__ import annotations

import pytest

from moeproof.pytest_plugin import NEEDED, VERDICT, Conformance
from moeproof.verdict import Verdict


@pytest.fixture
def verdict(request: pytest.FixtureRequest, case_id: str, check: str) -> Verdict:
    """What the check says about the case."""
    verdict = _conformance(request.config).judge.judge_check(case_id, check)
    request.node.stash[VERDICT] = verdict
    return verdict


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    pairs = _conformance(metafunc.config).plan
    ids = [f"{check}-{case_id}" for case_id, check in pairs]
    metafunc.parametrize(("case_id", "check"), pairs, ids=ids)


def _conformance(config: pytest.Config) -> Conformance:
    conformance = config.pluginmanager.get_plugin("moeproof-conformance")
    if conformance is None:
        pytest.exit(NEEDED, returncode=pytest.ExitCode.USAGE_ERROR)
    assert isinstance(conformance, Conformance)
    return conformance
