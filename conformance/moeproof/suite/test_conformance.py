"""The whole suite: an implementation conforms if every check of every case passes."""

from __future__ import annotations

import pytest

from moeproof.verdict import Outcome, Verdict


def test_conformance(verdict: Verdict) -> None:
    """PASS passes, FAIL and ERROR fail, and what is not claimed is skipped, with the reason."""
    if verdict.outcome is Outcome.UNSUPPORTED:
        pytest.skip(f"UNSUPPORTED: {verdict.message}")
    if verdict.outcome is not Outcome.PASS:
        message = f"{verdict.outcome.value}: {verdict.message}\n{verdict.reproducer}"
        pytest.fail(message, pytrace=False)
