"""A token that names an expert twice gets that expert's errors twice, not two other errors."""

from __future__ import annotations

import pytest

from moeproof.case_id import parse_case_id
from moeproof.devices import Device
from moeproof.judge import judge, make_trial
from moeproof.variants import VARIANTS
from moeproof.verdict import Outcome


@pytest.mark.parametrize(
    "case_id",
    [
        "T74-H2-I16-E8-K7-bf16/duplicates/random/transposed/10018623",
        "T5-H29-I19-E31-K7-bf16/duplicates/per_expert/row_padded/10005037",
        "T94-H1-I102-E9-K5-bf16/duplicates/random/offset/10033645",
    ],
)
def test_errors_of_a_repeated_expert_count_as_one(case_id: str) -> None:
    """Taken as independent, they made the R statistic of plain torch 1.56 to 1.76."""
    implementation = VARIANTS["plain_torch"].implementation
    verdict = judge(make_trial(parse_case_id(case_id), implementation, Device("cpu")), "accuracy")
    assert verdict.outcome is Outcome.PASS
    assert verdict.figures["r_statistic"] < 1.2
