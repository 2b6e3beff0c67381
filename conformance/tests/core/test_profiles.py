"""Profiles cover what they promise."""

from __future__ import annotations

from collections import defaultdict

import pytest

from moeproof import profiles
from moeproof.case import Case, Layout, ValueFamily
from moeproof.checks import CHECKS
from moeproof.checks.metamorphic import relation_of
from moeproof.checks.relations import RELATIONS
from moeproof.curated_routing import curated_routings
from moeproof.model_shapes import model_shapes
from moeproof.patterns import NEEDS_SIZES, PATTERNS
from moeproof.router_case import LogitFamily, RouterCase

QUICK = profiles.plan("quick", "cpu")
CASES = [planned.case for planned in QUICK if isinstance(planned.case, Case)]


def test_quick_has_at_least_300_cases_and_none_twice() -> None:
    assert len(QUICK) >= 300
    assert len({planned.case.case_id for planned in QUICK}) == len(QUICK)


def test_every_pattern_meets_every_dtype() -> None:
    dtypes = defaultdict(set)
    for case in CASES:
        dtypes[case.pattern].add(case.problem.dtype)
    for name in set(PATTERNS) - NEEDS_SIZES:
        assert dtypes[name] == set(profiles.DTYPES), name


def test_every_axis_is_covered() -> None:
    assert {case.values for case in CASES} == set(ValueFamily)
    assert {case.layout for case in CASES} == set(Layout)
    assert {case.problem.num_tokens for case in CASES} >= {0, 1, 2, 3, 15, 16, 17, 33, 65}
    experts = {case.problem.num_experts for case in CASES}
    assert experts >= {1, 2, 7, 8, 129, 192, 256, 257, 384, 512, 1025}
    assert {case.problem.top_k for case in CASES} >= {1, 2, 3, 6, 8, 10}
    assert {case.pattern for case in CASES} >= {f"curated:{name}" for name in curated_routings()}
    relations = {relation_of(case).name for case in CASES if case.problem.num_tokens}
    assert relations == {relation.name for relation in RELATIONS}
    routers = [planned.case for planned in QUICK if isinstance(planned.case, RouterCase)]
    assert {case.logits for case in routers} == set(LogitFamily)
    assert {case.problem.scoring for case in routers} == {"softmax", "sigmoid"}


def test_every_model_has_its_experts_and_its_router() -> None:
    planned = {entry.case for entry in QUICK}
    for shape in model_shapes().values():
        assert Case(shape.scaled_problem(5, dtype="bf16"), "zipf") in planned
        assert shape.router_case(5) in planned


def test_every_check_has_cases_where_it_can_run() -> None:
    used = {name for planned in QUICK for name in planned.checks}
    assert used == {name for name, check in CHECKS.items() if "cpu" in check.devices}
    on_gpu = {name for planned in profiles.plan("quick", "cuda") for name in planned.checks}
    assert on_gpu == set(CHECKS)
    assert sum("rejects" in planned.checks for planned in QUICK) == len(profiles.DTYPES)


def test_the_same_cases_run_on_both_vendors() -> None:
    assert profiles.plan("standard", "cuda") == profiles.plan("standard", "rocm")


def test_profiles_grow() -> None:
    quick, standard, exhaustive = (
        {planned.case for planned in profiles.plan(name, "cuda")}
        for name in ("quick", "standard", "exhaustive")
    )
    assert quick < standard < exhaustive


@pytest.mark.parametrize("device", ["gfx942", "gfx950"])
def test_emulation_runs_every_quick_case(device: str) -> None:
    planned = profiles.plan("emulated", device)
    assert [entry.case for entry in planned] == [entry.case for entry in QUICK]
    checks = {name for entry in planned for name in entry.checks}
    assert checks == {"accuracy", "exact", "memory", "rounding", "routing"}
    assert all(entry.checks for entry in planned)


@pytest.mark.parametrize("device", ["gfx90a", "gfx1100", "gfx1201"])
def test_the_other_emulated_gpus_run_a_case_a_dtype(device: str) -> None:
    cases = [entry.case for entry in profiles.plan("emulated", device)]
    assert [case.problem.dtype for case in cases if isinstance(case, Case)] == list(profiles.DTYPES)
    assert sum(isinstance(case, RouterCase) for case in cases) == 1


def test_an_unknown_profile_is_explained() -> None:
    with pytest.raises(ValueError, match="allowed: quick, standard,"):
        profiles.plan("thorough", "cpu")
