"""The check ``rounding``: what no rounding profile explains is refused, all else is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moeproof.case import Case
from moeproof.case_id import parse_case_id
from moeproof.devices import Device
from moeproof.faults import CONTROL, FAULTS
from moeproof.implementation import Capabilities, Implementation
from moeproof.judge import checks_for, judge, make_trial
from moeproof.profiles import plan
from moeproof.rounding_conclusion import conclude
from moeproof.rounding_profile import RoundingProfile
from moeproof.variants import VARIANTS
from moeproof.verdict import Outcome, Verdict

CPU = Device("cpu")
ROUNDS_INTERMEDIATE = RoundingProfile("no", "no", "yes", "no")


def case_id(dtype: str, *, seed: int = 0) -> str:
    return f"T9-H64-I48-E4-K2-{dtype}/uniform/random/contiguous/{seed}"


def declaring(implementation: Implementation, profile: RoundingProfile) -> Implementation:
    rounding = {"bf16": profile, "fp16": profile}
    return replace(
        implementation, capabilities=replace(implementation.capabilities, rounding=rounding)
    )


def judged(implementation: Implementation, case: str, check: str = "rounding") -> Verdict:
    return judge(make_trial(parse_case_id(case), implementation, CPU), check)


def long_sums(dtype: str) -> list[str]:
    return [f"T9-H320-I272-E2-K1-{dtype}/uniform/random/contiguous/{seed}" for seed in range(3)]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_right_steps_pass_and_are_told_how_they_round(dtype: str) -> None:
    verdict = judged(CONTROL.implementation, case_id(dtype))
    assert verdict.outcome is Outcome.PASS
    assert verdict.evidence["dtype"] == dtype
    assert verdict.evidence["declared"] is None
    assert ROUNDS_INTERMEDIATE.name in verdict.evidence["surviving"]
    assert verdict.figures["surviving_profiles"] == len(verdict.evidence["surviving"]) < 20


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize(
    "fault",
    [
        "intermediate_truncated",
        "output_truncated",
        "sigmoid_in_storage",
        "storage_partial_sums_of_16",
        "storage_partial_sums_of_128",
        "accumulator_not_cleared",
    ],
)
def test_what_the_wide_interval_hides_is_refused(fault: str, dtype: str) -> None:
    implementation = FAULTS[fault].implementation
    verdicts = [judged(implementation, case) for case in long_sums(dtype)]
    assert Outcome.FAIL in {verdict.outcome for verdict in verdicts}
    assert any("no rounding profile fits" in verdict.message for verdict in verdicts)
    right = [judged(CONTROL.implementation, case) for case in long_sums(dtype)]
    assert {verdict.outcome for verdict in right} == {Outcome.PASS}


def test_a_declared_profile_narrows_the_interval_of_every_check() -> None:
    summed_in_storage = VARIANTS["sums_slots_in_storage"].implementation
    assert judged(summed_in_storage, case_id("bf16"), "accuracy").outcome is Outcome.PASS
    declared = declaring(summed_in_storage, ROUNDS_INTERMEDIATE)
    verdict = judged(declared, case_id("bf16"), "accuracy")
    assert verdict.outcome is Outcome.FAIL
    verdict = judged(declared, case_id("bf16"))
    assert verdict.outcome is Outcome.FAIL
    assert "the declared rounding profile does not fit" in verdict.message
    assert verdict.worst is not None
    true = replace(ROUNDS_INTERMEDIATE, combine_in_output_dtype=True)
    for check in ("accuracy", "rounding"):
        assert judged(declaring(summed_in_storage, true), case_id("bf16"), check).outcome is (
            Outcome.PASS
        )


def test_one_may_declare_that_nothing_is_known() -> None:
    wrong = declaring(FAULTS["storage_partial_sums_of_16"].implementation, RoundingProfile())
    verdict = judged(wrong, case_id("bf16"))
    assert verdict.outcome is Outcome.PASS
    assert verdict.evidence["surviving"] == ["undeclared"]


def test_it_applies_to_random_signs_in_16_bits() -> None:
    for name, applies in (
        ("T9-H24-I20-E4-K2-bf16/uniform/random/contiguous/0", True),
        ("T9-H24-I20-E4-K2-fp16/uniform/per_expert/contiguous/0", True),
        ("T9-H24-I20-E4-K2-fp32/uniform/random/contiguous/0", False),
        ("T9-H24-I20-E4-K2-bf16/uniform/cancelling/contiguous/0", False),
        ("T9-H24-I20-E4-K2-bf16/uniform/silu_sweep/contiguous/0", False),
        ("T0-H24-I20-E4-K2-bf16/uniform/random/contiguous/0", False),
        ("route-T9-E64-K6-softmax-bf16/normal/0", False),
    ):
        assert ("rounding" in checks_for(parse_case_id(name), "cpu")) == applies, name


def test_the_quick_profile_can_tell_in_both_formats() -> None:
    planned = [item.case for item in plan("quick", "cpu") if "rounding" in item.checks]
    for dtype in ("bf16", "fp16"):
        cases = [case for case in planned if case.problem.dtype == dtype]
        assert len(cases) > 30
        single = [case for case in cases if isinstance(case, Case) and case.problem.top_k == 1]
        assert single, "one slot a token hides nothing behind the sum"


def test_a_fault_that_fits_each_case_may_fit_no_profile_in_all() -> None:
    """It rounds gate and up at even numbers of tokens alone."""
    often, never = (
        VARIANTS[name].implementation.fused_experts for name in ("rounds_gate_up", "tree")
    )

    def changeable(*arguments):  # type: ignore[no-untyped-def]
        return (never if len(arguments[0]) % 2 else often)(*arguments)

    implementation = replace(CONTROL.implementation, fused_experts=changeable)
    verdicts = [
        judged(implementation, f"T{tokens}-H64-I48-E4-K2-bf16/uniform/random/contiguous/0")
        for tokens in (8, 9, 10)
    ]
    assert {verdict.outcome for verdict in verdicts} == {Outcome.PASS}
    (conclusion,) = conclude(verdicts)
    assert conclusion.outcome is Outcome.FAIL
    assert len(conclusion.conflict) == 2
    assert any(case.startswith("T9-") for case in conclusion.conflict)
    cases = " ".join(conclusion.conflict)
    assert conclusion.reproducer.startswith(f"moeproof run --case {cases} --implementation ")


def test_the_tightest_profile_is_named_first() -> None:
    verdicts = [
        judged(CONTROL.implementation, case_id(dtype, seed=seed))
        for dtype in ("bf16", "fp16")
        for seed in range(4)
    ]
    conclusions = conclude(verdicts)
    assert [conclusion.dtype for conclusion in conclusions] == ["bf16", "fp16"]
    for conclusion in conclusions:
        assert conclusion.cases == 4
        assert conclusion.surviving[0] == ROUNDS_INTERMEDIATE.name
        assert conclusion.conflict == ()
        assert ROUNDS_INTERMEDIATE.name in conclusion.message


def test_verdicts_without_evidence_conclude_nothing() -> None:
    unsupported = replace(CONTROL.implementation, capabilities=Capabilities(dtypes=frozenset()))
    assert conclude([judged(unsupported, case_id("bf16"))]) == ()


def test_rounding_is_declared_for_known_dtypes() -> None:
    with pytest.raises(ValueError, match="dtype 'int8' is unknown; allowed: bf16, fp16, fp32"):
        Capabilities(rounding={"int8": RoundingProfile()})
