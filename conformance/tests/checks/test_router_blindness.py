"""Gross errors of a router are refused in every case that means anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from moeproof import router_cases
from moeproof.blindness import Sight, blind_spot, examine_router
from moeproof.blindness import router as module
from moeproof.case_id import parse_case_id
from moeproof.oracle import judge_routing, right_routing
from moeproof.router_case import RouterCase
from moeproof.router_inputs import RouterInputs, make_router_inputs

CASES = list(router_cases.small())
CORRUPTIONS = (
    "experts 0 to K - 1 for every token",
    "the next token's experts",
    "one expert replaced by the worst",
    "weights of 1 / K",
    "all weights their mean",
    "the next slot's weights",
    "all weights zero",
)


def sights(case_id: str) -> dict[str, Sight]:
    case = parse_case_id(case_id)
    assert isinstance(case, RouterCase)
    return {sight.corruption: sight for sight in examine(case)}


def examine(case: RouterCase) -> Sequence[Sight]:
    return list(examine_router(make_router_inputs(case), case.problem))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.case_id)
def test_the_right_routing_is_accepted(case: RouterCase) -> None:
    inputs, problem = make_router_inputs(case), case.problem
    right = right_routing(inputs, problem)
    violations = judge_routing(
        inputs,
        right.ids,
        right.weights_of(right.ids),
        top_k=problem.top_k,
        **problem.rule,
        lowest_id_ties=True,
    )
    assert violations == []


@pytest.mark.parametrize(
    "rules",
    [
        "softmax-renormalized",
        "softmax",
        "sigmoid-renormalized-bias-G8x3-scale2.5",
        "sigmoid-bias",
    ],
)
def test_every_corruption_of_ordinary_logits_is_refused(rules: str) -> None:
    found = sights(f"route-T9-E64-K6-{rules}-fp32/normal/0")
    assert set(CORRUPTIONS) <= set(found)
    assert {name: found[name].refused for name in CORRUPTIONS} == dict.fromkeys(CORRUPTIONS, 9)
    assert ("the best experts of all groups" in found) == ("G" in rules)
    assert ("the best experts without the bias" in found) == ("bias" in rules)
    assert all(sight.refused and not sight.blind for sight in found.values())


def test_a_judgement_that_ignores_the_choice_is_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    def weights_alone(*arguments: object, **rules: object) -> list[object]:
        return [v for v in judge_routing(*arguments, **rules) if v.rule == "weight"]  # type: ignore[arg-type]

    monkeypatch.setattr(module, "judge_routing", weights_alone)
    found = sights("route-T9-E64-K6-softmax-renormalized-fp32/normal/0")
    assert {name for name, sight in found.items() if sight.blind} == set(CORRUPTIONS[:3])
    assert blind_spot(found.values()) == "experts 0 to K - 1 for every token (token 0)"


def test_a_judgement_that_ignores_the_weights_is_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    def choice_alone(*arguments: object, **rules: object) -> list[object]:
        return [v for v in judge_routing(*arguments, **rules) if v.rule != "weight"]  # type: ignore[arg-type]

    monkeypatch.setattr(module, "judge_routing", choice_alone)
    found = sights("route-T9-E64-K6-softmax-renormalized-fp32/normal/0")
    assert {name for name, sight in found.items() if sight.blind} == set(CORRUPTIONS[3:])


def test_a_judgement_that_ignores_groups_is_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_groups(*arguments: object, **rules: object) -> list[object]:
        return judge_routing(*arguments, **{**rules, "num_groups": 1, "topk_groups": 1})  # type: ignore[arg-type]

    monkeypatch.setattr(module, "judge_routing", without_groups)
    found = sights("route-T33-E64-K4-sigmoid-bias-G8x2-fp32/normal/0")
    assert found["the best experts of all groups"].blind > 0


def test_a_judgement_that_ignores_the_bias_is_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_bias(inputs: RouterInputs, *arguments: object, **rules: object) -> list[object]:
        return judge_routing(replace(inputs, correction_bias=None), *arguments, **rules)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "judge_routing", without_bias)
    found = sights("route-T33-E64-K4-sigmoid-bias-fp32/saturated/0")
    assert found["the best experts without the bias"].blind > 0


def test_what_cannot_be_told_is_counted() -> None:
    equal = sights("route-T9-E16-K4-softmax-renormalized-fp32/all_equal/0")
    assert equal["experts 0 to K - 1 for every token"].idle == 9
    assert equal["one expert replaced by the worst"].small == 9
    assert equal["all weights zero"].refused == 9
    every = sights("route-T9-E4-K4-softmax-renormalized-fp32/normal/0")
    assert every["one expert replaced by the worst"].idle == 9
    spoilt = sights("route-T9-E16-K4-softmax-renormalized-fp32/not_a_number/0")
    assert spoilt["all weights zero"].unjudged > 0
    assert all(sight.blind == 0 for sight in (*equal.values(), *every.values(), *spoilt.values()))
