"""A replay tells the worst element once, and where its token stands in its experts' groups."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moeproof.case import Case
from moeproof.inputs import make_routing
from moeproof.replay_text import describe_verdict
from moeproof.verdict import Outcome, Verdict, WorstElement

# Expert 0 has every token; 1 and 2 have some of the others' slots, and the rest are masked.
CASE = Case.parse("T5-H8-I8-E3-K3-fp32/masked_group_sizes:5+2+4/random/contiguous/0")
IDS = make_routing(CASE).topk_ids.tolist()
WORST = WorstElement(4, 1, tuple(IDS[4]), 0.0, 1.0, 2.0, 30.0)
VERDICT = Verdict(
    case_id=CASE.case_id,
    check="accuracy",
    outcome=Outcome.FAIL,
    message=f"8 of 40 elements are outside; worst: {WORST}",
    figures={},
    worst=WORST,
    evidence={},
    seconds=0.1,
    reproducer="moeproof replay ...",
)


def test_the_worst_element_is_told_once() -> None:
    assert describe_verdict(VERDICT).count(str(WORST)) == 1
    elsewhere = replace(VERDICT, message="1 of 40 elements differs from the exact result")
    assert f"\n  worst: {WORST}\n" in describe_verdict(elsewhere)


@pytest.mark.parametrize("token", range(5))
def test_its_token_is_placed_among_its_experts_rows(token: int) -> None:
    told = describe_verdict(replace(VERDICT, worst=replace(WORST, token=token)))
    (line,) = [line for line in told.splitlines() if "in the order of tokens" in line]
    assert line.startswith(f"  token {token} is row ")
    for expert, size in enumerate((5, 2, 4)):
        before = sum(expert in row for row in IDS[:token])
        place = f"row {before + 1} of {size} of expert {expert}"
        assert (place in line) == (expert in IDS[token])


def test_a_token_without_experts_has_no_place() -> None:
    case = Case.parse("T2-H8-I8-E3-K2-fp32/masked_all/random/contiguous/0")
    verdict = replace(VERDICT, case_id=case.case_id, worst=replace(WORST, token=1))
    assert "  token 1 has no expert\n" in describe_verdict(verdict)


def test_a_changed_batchs_tokens_are_not_the_cases() -> None:
    assert "in the order of tokens" not in describe_verdict(replace(VERDICT, check="metamorphic"))
