"""Case ids rebuild their cases, and say what is wrong with a text that is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeproof.case import Case, Layout, UnwrittenMemory, ValueFamily
from moeproof.case_id import parse_case_id
from moeproof.inputs import make_inputs
from moeproof.problem import Problem
from moeproof.router_case import LogitFamily, RouterCase, RouterProblem
from moeproof.router_inputs import make_router_inputs

SIZES = st.integers(1, 40)
PROBLEMS = st.builds(
    Problem,
    num_tokens=st.integers(0, 40),
    hidden_size=SIZES,
    intermediate_size=SIZES,
    num_experts=st.integers(4, 40),
    top_k=st.integers(1, 4),
    dtype=st.sampled_from(["bf16", "fp16", "fp32"]),
)
CASES = st.builds(
    Case,
    PROBLEMS,
    st.sampled_from(["uniform", "zipf", "masked_slots"]),
    st.sampled_from(ValueFamily),
    st.sampled_from(Layout),
    st.integers(0, 2**40),
    st.sampled_from(UnwrittenMemory),
)
ROUTER_CASES = st.builds(
    RouterCase,
    st.builds(
        RouterProblem,
        st.integers(0, 9),
        st.just(24),
        st.integers(1, 6),
        scoring=st.sampled_from(["softmax", "sigmoid"]),
        renormalize=st.booleans(),
        has_bias=st.booleans(),
        num_groups=st.just(4),
        topk_groups=st.integers(1, 4),
        scaling_factor=st.sampled_from([1.0, 2.5, 16.0]),
        dtype=st.sampled_from(["bf16", "fp32"]),
    ),
    st.sampled_from(LogitFamily),
    st.integers(0, 99),
)


@given(st.one_of(CASES, ROUTER_CASES))
def test_a_case_id_rebuilds_its_case(case: Case | RouterCase) -> None:
    assert parse_case_id(case.case_id) == case
    assert case.case_id.isprintable()
    assert " " not in case.case_id


def test_the_same_id_gives_the_same_bits() -> None:
    case_id = "T33-H64-I48-E8-K2-bf16/zipf/random/contiguous/7"
    first, second = (make_inputs(parse_case_id(case_id)).arrays() for _ in range(2))
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes()
    other = make_inputs(parse_case_id(case_id[:-1] + "8"))
    assert other.hidden_states.tobytes() != first["hidden_states"].tobytes()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense", "PROBLEM/PATTERN/VALUES/LAYOUT/SEED"),
        ("T33-H64/zipf/random/contiguous/7", "T33-H64-I96-E8-K2-bf16"),
        ("T3-H4-I4-E8-K2-fp8/zipf/random/contiguous/7", "bf16, fp16, fp32"),
        ("T3-H4-I4-E8-K2-bf16/zipff/random/contiguous/7", "zipf"),
        ("T3-H4-I4-E8-K2-bf16/zipf/normal/contiguous/7", "random"),
        ("T3-H4-I4-E8-K2-bf16/zipf/random/diagonal/7", "contiguous"),
        ("T3-H4-I4-E8-K2-bf16/zipf/random/contiguous/-7", "SEED"),
        ("T3-H4-I4-E8-K2-bf16/zipf/random/contiguous/7/twos", "nan, ones"),
        ("T3-H4-I4-E8-K9-bf16/zipf/random/contiguous/7", "top_k <= num_experts"),
        ("T3-H4-I4-E2-K1-bf16/group_sizes:2+2/random/contiguous/7", "sum to T[*]K = 3"),
        ("route-T3-E8-K2-tanh-fp32/ties/0", "route-T5-E256"),
        ("route-T3-E8-K2-softmax-fp32/tied/0", "near_ties"),
        ("route-T3-E8-K9-softmax-fp32/ties/0", "top_k"),
    ],
)
def test_a_wrong_id_is_explained(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_case_id(text)


@pytest.mark.parametrize("family", LogitFamily)
def test_logits_are_what_their_family_says(family: LogitFamily) -> None:
    problem = RouterProblem(12, 64, 6, dtype="fp32")
    logits = make_router_inputs(RouterCase(problem, family)).router_logits
    assert logits.shape == (12, 64)
    holds = {
        LogitFamily.VERY_NEGATIVE: lambda: (logits < -100).all(),
        LogitFamily.ALL_EQUAL: lambda: (logits == logits[:, :1]).all(),
        LogitFamily.TIES: lambda: len(np.unique(logits)) == 5,
        LogitFamily.NOT_A_NUMBER: lambda: np.isnan(logits[::3]).any(axis=1).all(),
        LogitFamily.POSITIVE_INFINITY: lambda: np.isposinf(logits).any(),
        LogitFamily.NEGATIVE_INFINITY: lambda: (np.isfinite(logits).sum(axis=1) >= 6).all(),
        LogitFamily.HIGH_EXPERTS: lambda: (np.argmax(logits, axis=1) > 20).all(),
        LogitFamily.NEAR_TIES: lambda: np.ptp(logits) < 1e-5,
    }
    assert family not in holds or holds[family]()
