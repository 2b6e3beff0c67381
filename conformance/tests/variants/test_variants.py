"""Right implementations pass whatever they claim."""

from __future__ import annotations

import pytest

from moeproof.case_id import parse_case_id
from moeproof.devices import Device
from moeproof.implementation import Implementation, ImplementationError, load_implementation
from moeproof.judge import checks_for, judge, make_trial
from moeproof.rounding_conclusion import conclude
from moeproof.variants import VARIANTS
from moeproof.verdict import Outcome

CASES = (
    "T9-H24-I20-E4-K3-bf16/uniform/random/contiguous/0",
    "T9-H24-I20-E4-K3-fp16/masked_slots/per_expert/row_padded/1",
    "T9-H24-I20-E4-K3-fp32/zipf/cancelling/transposed/2",
    "T9-H24-I20-E4-K3-bf16/duplicates/huge/offset/3",
    "T9-H24-I20-E4-K3-fp16/zero_weights/tiny/contiguous/4",
    "T9-H24-I20-E4-K3-fp32/one_hot_expert/exact_up/contiguous/5",
    "T9-H24-I20-E4-K3-bf16/empty_first/exact_gate/contiguous/6",
    "T9-H24-I20-E4-K3-fp16/uniform/exact_down/contiguous/7",
    "T9-H24-I20-E4-K3-bf16/uniform/subnormal/contiguous/8",
    "T0-H24-I20-E4-K3-bf16/uniform/random/contiguous/9",
    "T9-H24-I20-E4-K3-fp16/uniform/silu_sweep/contiguous/10",
    "T9-H24-I20-E4-K3-bf16/uniform/exact_rounded/contiguous/11",
    "route-T9-E64-K6-sigmoid-renormalized-bias-G4x2-scale2.5-bf16/normal/0",
    "route-T9-E60-K4-softmax-renormalized-fp32/ties/0",
    "route-T9-E60-K4-softmax-fp16/negative_infinity/0",
    "route-T57-E64-K1-softmax-renormalized-bias-G8x1-scale2.5-bf16/negative_infinity/5074",
)


EXPERT_VARIANTS = [name for name, variant in VARIANTS.items() if variant.kind == "experts"]


@pytest.mark.parametrize("case_id", CASES)
@pytest.mark.parametrize("name", VARIANTS)
def test_passes(name: str, case_id: str) -> None:
    require_right(VARIANTS[name].implementation, case_id)


@pytest.mark.parametrize("case_id", [case for case in CASES if not case.startswith("route")])
@pytest.mark.parametrize("name", EXPERT_VARIANTS)
def test_passes_with_its_rounding_profile_declared(name: str, case_id: str) -> None:
    require_right(VARIANTS[name].declared, case_id)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("name", EXPERT_VARIANTS)
def test_its_rounding_profile_is_inferred(name: str, dtype: str) -> None:
    variant = VARIANTS[name]
    verdicts = [
        judge(make_trial(parse_case_id(case_id), variant.implementation, Device("cpu")), "rounding")
        for case_id in (
            f"T5-H40-I32-E3-K1-{dtype}/uniform/random/contiguous/0",
            f"T9-H64-I48-E4-K2-{dtype}/uniform/per_expert/contiguous/1",
            f"T9-H48-I40-E7-K5-{dtype}/duplicates/random/contiguous/2",
        )
    ]
    (conclusion,) = conclude(verdicts)
    assert variant.rounding.name in conclusion.surviving
    if not variant.rounding.combine_in_output_dtype:
        assert len(conclusion.surviving) < 13


def require_right(implementation: Implementation, case_id: str) -> None:
    trial = make_trial(parse_case_id(case_id), implementation, Device("cpu"))
    for check in checks_for(trial.case, "cpu"):
        verdict = judge(trial, check)
        allowed = (Outcome.PASS, Outcome.UNSUPPORTED)
        assert verdict.outcome in allowed, f"{check}: {verdict.message}"
        if verdict.outcome is Outcome.UNSUPPORTED:
            assert "claimed" in verdict.message or "not offered" in verdict.message


def test_named_on_the_command_line() -> None:
    variant = VARIANTS["tree"]
    assert load_implementation(variant.implementation.name) is variant.implementation
    declared = load_implementation("moeproof.variants:declared_tree")
    assert declared.capabilities.rounding["bf16"] == variant.rounding
    assert declared.name == "moeproof.variants:declared_tree"
    with pytest.raises(ImplementationError, match="no_such_variant"):
        load_implementation("moeproof.variants:no_such_variant")
