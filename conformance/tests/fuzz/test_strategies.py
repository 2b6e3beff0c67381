"""What the fuzzer draws is legal, reaches every axis, and shrinks to little."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from moeproof.case import Case, Layout, UnwrittenMemory, ValueFamily
from moeproof.case_id import AnyCase, parse_case_id
from moeproof.fuzz.profile import FUZZ_PROFILES
from moeproof.inputs import make_routing
from moeproof.router_case import LogitFamily, RouterCase
from moeproof.strategies import cases, expert_cases, group_size_routings, router_cases, sizes

LIMITS = FUZZ_PROFILES["pr"].limits
SOME = settings(
    max_examples=300,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def drawn(strategy: st.SearchStrategy[AnyCase], number: int) -> list[AnyCase]:
    found: list[AnyCase] = []

    @settings(SOME, max_examples=number, derandomize=True)
    @given(strategy)
    def collect(case: AnyCase) -> None:
        found.append(case)

    collect()
    return found


@SOME
@given(cases(LIMITS))
def test_a_drawn_case_is_rebuilt_from_its_id_and_keeps_the_limits(case: AnyCase) -> None:
    assert parse_case_id(case.case_id) == case
    if "curated" not in case.case_id:
        assert case.problem.num_tokens <= LIMITS.num_tokens
        assert case.problem.num_experts <= LIMITS.num_experts
        assert case.problem.top_k <= LIMITS.top_k


@SOME
@given(group_size_routings(LIMITS))
def test_groups_have_the_sizes_that_were_drawn(routed: tuple) -> None:  # type: ignore[type-arg]
    problem, pattern = routed
    name, _, argument = pattern.partition(":")
    wanted = [int(size) for size in argument.split("+")]
    ids = make_routing(Case(problem, pattern)).topk_ids
    assert [(ids == expert).sum() for expert in range(problem.num_experts)] == wanted
    assert (ids < 0).any() == (name == "masked_group_sizes")
    for row in ids:
        chosen = [expert for expert in row if expert >= 0]
        assert len(set(chosen)) == len(chosen)


def test_every_axis_is_reached() -> None:
    experts = [case for case in drawn(expert_cases(LIMITS), 600) if isinstance(case, Case)]
    assert {case.values for case in experts} == set(ValueFamily)
    assert {case.layout for case in experts} == set(Layout)
    assert {case.unwritten for case in experts} == set(UnwrittenMemory)
    assert {case.problem.dtype for case in experts} == {"bf16", "fp16", "fp32"}
    patterns = {case.pattern.partition(":")[0] for case in experts}
    assert patterns >= {"group_sizes", "masked_group_sizes", "curated", "uniform"}
    assert len(patterns) > 15
    with_gaps = [case for case in experts if re.search(r"group_sizes:.*\+0\+", case.pattern)]
    assert len(with_gaps) > 20
    assert any(case.problem.num_experts >= 255 for case in experts)
    routers = [case for case in drawn(router_cases(LIMITS), 300) if isinstance(case, RouterCase)]
    assert {case.logits for case in routers} == set(LogitFamily)
    assert {case.problem.num_groups for case in routers} == {1, 2, 4, 8}
    assert {case.problem.has_bias for case in routers} == {False, True}


def test_widths_that_say_nothing_are_not_drawn() -> None:
    for case in drawn(expert_cases(LIMITS), 300):
        assert isinstance(case, Case)
        narrowest = min(case.problem.hidden_size, case.problem.intermediate_size)
        assert narrowest > 2 or case.problem.num_tokens >= 8


@pytest.mark.parametrize(("smallest", "largest"), [(0, 0), (4, 5), (1, 300), (50, 60)])
def test_sizes_lie_within_their_ends(smallest: int, largest: int) -> None:
    @SOME
    @given(sizes(smallest, largest))
    def within(size: int) -> None:
        assert smallest <= size <= largest

    within()


def test_cases_shrink_to_little() -> None:
    def has_idle_expert_between(case: AnyCase) -> bool:
        return re.search(r"group_sizes:.*[1-9]\+0\+[1-9]", case.case_id) is not None

    def has_strides(case: AnyCase) -> bool:
        return "row_padded" in case.case_id and case.problem.num_tokens > 1

    def smallest(condition: Callable[[AnyCase], bool]) -> str:
        thorough = settings(SOME, max_examples=2000, phases=[Phase.generate, Phase.shrink])
        return find(cases(LIMITS), condition, settings=thorough).case_id

    wanted = "T2-H4-I4-E3-K1-bf16/group_sizes:1+0+1/random/contiguous/0"
    assert smallest(has_idle_expert_between) == wanted
    # None of the curated routings is that small.
    shape, _, *rest = smallest(has_strides).split("/")
    assert (shape, rest) == ("T2-H4-I4-E1-K1-bf16", ["random", "row_padded", "0"])
