"""Every adapter loads by its name, keeps its claims, and is caught when its answer is spoilt."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import entry_points

import pytest
import torch

from moeproof.case_id import parse_case_id
from moeproof.devices import resolve_device
from moeproof.implementation import (
    ADAPTER_GROUP,
    Implementation,
    ImplementationError,
    adapter_names,
    load_implementation,
)
from moeproof.judge import checks_for, judge, make_trial
from moeproof.verdict import Outcome

PASS, FAIL, UNSUPPORTED = Outcome.PASS, Outcome.FAIL, Outcome.UNSUPPORTED
# Installed by the test environment; the others are for those who have their package.
NEEDED = (
    "moe_dispatch",
    "moe_dispatch_batch_invariant",
    "torch_eager",
    "torch_grouped_mm",
    "transformers_batched_mm",
    "transformers_eager",
    "transformers_grouped_mm",
)
CASES = (
    "T5-H24-I16-E4-K2-bf16/zipf/random/contiguous/0",
    "T9-H24-I16-E6-K3-fp16/masked_slots/random/contiguous/1",
    "T6-H24-I16-E3-K2-fp32/masked_past_end/per_expert/transposed/2",
    "T4-H24-I16-E3-K2-fp32/masked_all/random/contiguous/3",
    "T7-H24-I16-E5-K2-bf16/empty_first/cancelling/contiguous/4",
    "T6-H40-I16-E4-K2-fp32/uniform/exact_down/contiguous/5",
    "T4-H24-I16-E4-K4-bf16/duplicates/random/contiguous/6",
    "T0-H24-I16-E4-K2-fp32/uniform/random/contiguous/0",
)


def outcomes(implementation: Implementation, case_id: str) -> dict[str, Outcome]:
    """Check -> outcome, of every check that makes sense on the CPU."""
    case = parse_case_id(case_id)
    trial = make_trial(case, implementation, resolve_device("cpu"))
    return {check: judge(trial, check).outcome for check in checks_for(case, "cpu")}


def test_the_adapters_needed_are_installed():
    assert set(NEEDED) <= set(adapter_names())


@pytest.mark.parametrize("name", NEEDED)
def test_an_adapter_is_named_as_its_entry_point(name):
    implementation = load_implementation(name)
    assert implementation.name == name
    assert implementation.version


@pytest.mark.parametrize("case_id", CASES)
@pytest.mark.parametrize("name", NEEDED)
def test_an_adapter_keeps_its_claims(name, case_id):
    found = outcomes(load_implementation(name), case_id)
    assert found["accuracy"] is PASS
    assert set(found.values()) <= {PASS, UNSUPPORTED}, found


@pytest.mark.parametrize("name", NEEDED)
def test_a_spoilt_answer_is_caught(name):
    implementation = load_implementation(name)

    def spoilt(hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights):
        up_gate = torch.cat(gate_up_proj.chunk(2, dim=1)[::-1], dim=1)
        return implementation.fused_experts(
            hidden_states, up_gate, down_proj, topk_ids, topk_weights
        )

    found = outcomes(replace(implementation, fused_experts=spoilt), CASES[0])
    assert found["accuracy"] is FAIL
    assert found["memory"] is FAIL


@pytest.mark.parametrize("name", ["torch_grouped_mm", "transformers_grouped_mm"])
def test_rows_of_odd_lengths_are_declared_unsupported(name):
    found = outcomes(load_implementation(name), "T5-H25-I16-E4-K2-bf16/uniform/random/contiguous/0")
    assert found["accuracy"] is UNSUPPORTED


@pytest.mark.parametrize("name", NEEDED)
def test_the_router_is_judged_where_there_is_one(name):
    implementation = load_implementation(name)
    expected = UNSUPPORTED if implementation.route is None else PASS
    for case_id in (
        "route-T5-E8-K2-softmax-renormalized-fp32/normal/0",
        "route-T5-E32-K4-sigmoid-renormalized-bias-G8x4-scale2.5-fp32/ties/0",
        "route-T5-E8-K2-sigmoid-renormalized-bf16/very_negative/0",
        "route-T6-E8-K3-softmax-fp16/not_a_number/0",
    ):
        assert set(outcomes(implementation, case_id).values()) == {expected}, case_id


@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        ("transformers_eager", "transformers", "transformers >= 5"),
        ("liger_kernel", "liger_kernel", "liger-kernel >= 0"),
        ("flag_gems", "flag_gems", "flag-gems >= 5 and a GPU are needed"),
    ],
)
def test_a_missing_package_is_named(name, module, message, monkeypatch):
    (point,) = entry_points(group=ADAPTER_GROUP, name=name)
    monkeypatch.delitem(sys.modules, point.module, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImplementationError, match=message):
        load_implementation(name)
