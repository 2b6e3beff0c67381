"""The routing check passes a right router, catches wrong ones, and says what is unsupported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from moeproof import router_cases
from moeproof.case_id import parse_case_id
from moeproof.devices import Device
from moeproof.implementation import Capabilities, Implementation
from moeproof.judge import judge, make_trial
from moeproof.verdict import Outcome, Verdict

RULES = frozenset({"softmax", "sigmoid", "raw", "bias", "groups", "scale"})
Pair = tuple[torch.Tensor, torch.Tensor]


def right(
    logits: torch.Tensor,
    top_k: int,
    *,
    scoring: str,
    renormalize: bool,
    correction_bias: torch.Tensor | None,
    num_groups: int,
    topk_groups: int,
    scaling_factor: float,
) -> Pair:
    """A router in plain torch; NaN scores lose to all others."""
    logits = logits.float()
    scores = logits.softmax(dim=1) if scoring == "softmax" else logits.sigmoid()
    choice = scores if correction_bias is None else scores + correction_bias
    choice = choice.nan_to_num(nan=-1e30)
    if num_groups > 1:
        grouped = choice.view(len(choice), num_groups, choice.shape[1] // num_groups)
        best = grouped.topk(2, dim=2).values.sum(dim=2)
        kept = best.topk(topk_groups, dim=1).indices
        mask = torch.zeros_like(best).scatter_(1, kept, 1.0).bool()
        choice = grouped.masked_fill(~mask[:, :, None], -torch.inf).flatten(1)
    ids = choice.sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    weights = scores.gather(1, ids)
    if renormalize:
        weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(2.0**-126)
    return ids.int(), weights * scaling_factor


def verdict(case_id: str, route: Callable[..., Any] | None, **claims: Any) -> Verdict:
    capabilities = Capabilities(router_rules=claims.pop("router_rules", RULES), **claims)
    implementation = Implementation("subject", lambda *a: None, route, capabilities)
    return judge(make_trial(parse_case_id(case_id), implementation, Device("cpu")), "routing")


@pytest.mark.parametrize("case", list(router_cases.small()), ids=lambda case: case.case_id)
def test_a_right_router_passes(case: Any) -> None:
    result = verdict(case.case_id, right, lowest_id_ties=True)
    assert result.outcome is Outcome.PASS, result.message


SOFTMAX = "route-T33-E8-K2-softmax-renormalized-fp32/normal/0"
BIASED = "route-T17-E64-K6-sigmoid-renormalized-bias-scale2.5-fp32/normal/0"


def next_best(logits: torch.Tensor, top_k: int, **rules: Any) -> Pair:
    ids, weights = right(logits, top_k + 1, **rules)
    return ids[:, 1:], weights[:, 1:]


def twice_the_first(logits: torch.Tensor, top_k: int, **rules: Any) -> Pair:
    ids, weights = right(logits, top_k, **rules)
    ids[:, -1] = ids[:, 0]
    return ids, weights


def biased_weights(logits: torch.Tensor, top_k: int, **rules: Any) -> Pair:
    ids, _ = right(logits, top_k, **rules)
    weights = (logits.float().sigmoid() + rules["correction_bias"]).gather(1, ids.long())
    return ids, 2.5 * weights / weights.sum(dim=1, keepdim=True)


def out_of_range_for_nan(logits: torch.Tensor, top_k: int, **rules: Any) -> Pair:
    ids, weights = right(logits, top_k, **rules)
    return torch.where(logits.isnan().any(dim=1, keepdim=True), logits.shape[1], ids).int(), weights


def zero_over_zero(logits: torch.Tensor, top_k: int, **rules: Any) -> Pair:
    ids, _ = right(logits, top_k, **rules)
    weights = logits.float().sigmoid().gather(1, ids.long())
    return ids, 2.5 * weights / weights.sum(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("case_id", "fault"),
    [
        (SOFTMAX, next_best),
        (SOFTMAX, twice_the_first),
        (BIASED, biased_weights),
        (SOFTMAX.replace("/normal/", "/not_a_number/"), out_of_range_for_nan),
        (BIASED.replace("/normal/", "/very_negative/"), zero_over_zero),
    ],
)
def test_wrong_routers_are_caught(case_id: str, fault: Callable[..., Pair]) -> None:
    result = verdict(case_id, fault)
    assert result.outcome is Outcome.FAIL
    assert "tokens are routed wrongly" in result.message


def test_the_higher_id_of_a_tie_fails_only_where_the_lower_is_claimed() -> None:
    def highest(logits: torch.Tensor, top_k: int, **rules: Any) -> Pair:
        ids, weights = right(logits.flip(1), top_k, **rules)
        return (logits.shape[1] - 1 - ids).int(), weights

    ties = SOFTMAX.replace("/normal/", "/ties/")
    assert verdict(ties, highest, lowest_id_ties=False).outcome is Outcome.PASS
    assert verdict(ties, highest, lowest_id_ties=True).outcome is Outcome.FAIL


def test_what_is_not_claimed_is_unsupported() -> None:
    assert verdict(SOFTMAX, None).message == "route is not offered"
    unclaimed = verdict(BIASED, right, router_rules=frozenset({"sigmoid"}))
    assert unclaimed.outcome is Outcome.UNSUPPORTED
    assert "bias, scale" in unclaimed.message


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (lambda ids, weights: ids, "expected a pair"),
        (lambda ids, weights: (ids[:, :1], weights), "topk_ids has shape (33, 1)"),
        (lambda ids, weights: (ids, weights.half()), "topk_weights has dtype"),
        (lambda ids, weights: (ids.float(), weights), "topk_ids has dtype"),
    ],
)
def test_a_result_that_breaks_the_contract_fails(
    result: Callable[..., Any], complaint: str
) -> None:
    found = verdict(SOFTMAX, lambda *a, **rules: result(*right(*a, **rules)))
    assert found.outcome is Outcome.FAIL
    assert complaint in found.message
