"""No right implementation is refused: thousands of small runs of legal variants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from moeproof.case import Case, ValueFamily
from moeproof.inputs import ExpertInputs, make_inputs
from moeproof.oracle import (
    R_LIMIT,
    R_MINIMUM_OUTPUTS,
    UNDECLARED,
    Interval,
    RoundingProfile,
    expert_interval,
    r_statistic,
)
from moeproof.problem import Problem

from .simulated_experts import SimulatedExperts
from .simulated_products import (
    MATRIX_UNITS,
    PRODUCTS,
    fused,
    fused_with_flush,
    matrix_unit,
    sequential,
    through_tf32,
)

DTYPES = ("bf16", "fp16", "fp32")
FAMILIES = tuple(family for family in ValueFamily if not family.is_exact)
PATTERNS = ("uniform", "masked_slots", "duplicates", "unnormalised_weights", "zero_weights")
SEEDS = range(7)


def draw_case(random: np.random.Generator, dtype: str, family: ValueFamily) -> Case:
    experts = int(random.choice([1, 4, 8]))
    problem = Problem(
        num_tokens=4,
        hidden_size=int(random.choice([1, 7, 32, 65, 96])),
        intermediate_size=int(random.choice([1, 5, 33, 64])),
        num_experts=experts,
        top_k=int(random.choice([k for k in (1, 2, 4) if k <= experts])),
        dtype=dtype,
    )
    pattern = str(random.choice(PATTERNS))
    if pattern in ("masked_slots", "duplicates", "zero_weights") and problem.top_k == 1:
        pattern = "uniform"
    return Case(problem, pattern, family, seed=int(random.integers(1000)))


def legal_variants(
    dtype: str, random: np.random.Generator
) -> Iterator[tuple[str, SimulatedExperts, RoundingProfile | None]]:
    """Name, implementation and the profile that it must be judged under besides its own.

    Rounding points are drawn anew for each; what is not a rounding point is declared always.
    """
    products = PRODUCTS if dtype == "fp32" else {**PRODUCTS, **MATRIX_UNITS}
    for name, product in products.items():
        choices = [bool(choice) for choice in random.integers(0, 2, 8)]
        gate_up, silu, intermediate, output, after, fast, sigmoid_last, reverse = choices
        points = (gate_up, silu and not sigmoid_last, intermediate, output, after)
        if dtype == "fp32":
            points = (False,) * 5
        variant = SimulatedExperts(product, *points, fast, sigmoid_last, last_slot_first=reverse)
        yield name, variant, UNDECLARED
    flushing = SimulatedExperts(fused_with_flush, intermediate=dtype != "fp32", flushes=True)
    yield "flushed operands", flushing, RoundingProfile(flushes_subnormals=True)
    if dtype == "fp32":
        with_tf32 = SimulatedExperts(through_tf32(matrix_unit(4, 23)), fast_exponential=True)
        declared = RoundingProfile(tf32=True, accumulator="mma")
        yield "tf32", with_tf32, declared
        return
    running = SimulatedExperts(fused, True, True, True, True, combine_in_storage=True)
    yield "running sum in storage", running, RoundingProfile(combine_in_output_dtype=True)
    stored = SimulatedExperts(fused, intermediate=True, weights_in_storage=True)
    yield "weights in storage", stored, RoundingProfile(weights_in_storage_dtype=True)


def own_profile(variant: SimulatedExperts, declared: RoundingProfile) -> RoundingProfile:
    return replace(variant.profile(), tf32=declared.tf32, accumulator=declared.accumulator)


def intervals(
    inputs: ExpertInputs, case: Case, profiles: list[RoundingProfile]
) -> Iterator[tuple[RoundingProfile, Interval]]:
    """Worst case and, where signs are random, probabilistic ones as well."""
    kinds = (False, True) if case.values.has_independent_signs else (False,)
    for profile in profiles:
        for independent_signs in kinds:
            yield (
                profile,
                expert_interval(
                    inputs,
                    dtype=case.problem.dtype,
                    independent_signs=independent_signs,
                    profile=profile,
                ),
            )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.value)
@pytest.mark.parametrize("dtype", DTYPES)
def test_legal_variants_are_never_refused(dtype: str, family: ValueFamily, seed: int) -> None:
    random = np.random.default_rng([DTYPES.index(dtype), FAMILIES.index(family), seed])
    case = draw_case(random, dtype, family)
    inputs = make_inputs(case)
    for name, variant, declared in legal_variants(dtype, random):
        output = variant(inputs, random)
        for profile, interval in intervals(
            inputs, case, [declared, own_profile(variant, declared)]
        ):
            worst = interval.error_ratio(output).max(initial=0)
            assert worst <= 1, f"{case.case_id}: {name} under {profile.name}: {worst}"
            assert interval.overflow.mean() < 0.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_r_statistic_of_legal_variants_stays_below_its_limit(dtype: str, seed: int) -> None:
    random = np.random.default_rng([DTYPES.index(dtype), seed])
    case = draw_case(random, dtype, ValueFamily.RANDOM)
    case = replace(case, problem=replace(case.problem, num_tokens=8, hidden_size=48))
    inputs = make_inputs(case)
    for name, variant, declared in legal_variants(dtype, random):
        output = variant(inputs, random)
        for profile, interval in intervals(
            inputs, case, [declared, own_profile(variant, declared)]
        ):
            if (interval.bound > 0).sum() >= R_MINIMUM_OUTPUTS:
                statistic = r_statistic(output, interval)
                assert statistic < R_LIMIT, f"{case.case_id}: {name} under {profile.name}"


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_weight_on_the_intermediate_value_is_legal_without_a_profile(dtype: str) -> None:
    random = np.random.default_rng(1)
    for seed in range(20):
        case = replace(draw_case(random, dtype, ValueFamily.RANDOM), seed=seed)
        inputs = make_inputs(case)
        variant = SimulatedExperts(fused, intermediate=True, weight_on_intermediate=True)
        for _, interval in intervals(inputs, case, [UNDECLARED]):
            assert interval.accepts(variant(inputs, random)).all(), case.case_id


def test_a_down_projection_that_attains_the_worst_case_is_legal() -> None:
    """Its products are 64, then halves of 64's last place, each of which a tie rounds away."""
    intermediate = 401
    down = np.full((1, 1, intermediate), 2.0**-24, dtype=np.float32)
    down[0, 0, 0] = 1
    inputs = ExpertInputs(
        np.ones((1, 1), dtype=np.float32),
        np.repeat(np.array([[[64.0], [1.0]]], dtype=np.float32), intermediate, axis=1),
        down,
        np.zeros((1, 1), dtype=np.int32),
        np.ones((1, 1), dtype=np.float32),
    )
    output = SimulatedExperts(sequential)(inputs, np.random.default_rng(0))
    assert output == 64
    interval = expert_interval(inputs, dtype="fp32", independent_signs=False)
    assert interval.accepts(output).all()
    assert interval.error_ratio(output) > 0.9


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bound_is_less_than_four_times_what_legal_variants_need(dtype: str) -> None:
    """Halved or quartered bounds refuse legal outputs: no term is there for nothing."""
    random = np.random.default_rng(2)
    largest = 0.0
    for seed in range(40):
        problem = Problem(64, 1, 1, 2, 1, dtype)
        case = Case(problem, "unnormalised_weights", ValueFamily.RANDOM, seed=seed)
        inputs = make_inputs(case)
        rounds = dtype != "fp32"
        variant = SimulatedExperts(
            fused, *(rounds,) * 4, fast_exponential=True, weights_after=bool(seed % 2)
        )
        output = variant(inputs, random).astype(np.float64)
        interval = expert_interval(inputs, dtype=dtype, independent_signs=False)
        beyond = np.maximum(interval.lower - output, output - interval.upper)
        assert (beyond <= 0).all()
        half_step = np.abs(interval.upper) * interval.fmt.unit_roundoff
        needed = (np.abs(output - interval.centre) - half_step) / interval.bound
        largest = max(largest, float(needed.max()))
    assert largest > 0.25


@pytest.mark.parametrize("dtype", DTYPES)
def test_ends_of_the_interval_are_the_rounded_bounds_exactly(dtype: str) -> None:
    """Against rational arithmetic: nothing of centre +- bound is lost when it is rounded."""
    random = np.random.default_rng(3)
    for family in FAMILIES:
        case = draw_case(random, dtype, family)
        interval = expert_interval(make_inputs(case), dtype=dtype, independent_signs=False)
        fmt = interval.fmt
        quantum = Fraction(2) ** (fmt.min_exponent - fmt.significand_bits + 1)
        columns = (interval.centre, interval.bound, interval.lower, interval.upper)
        for centre, bound, lower, upper in zip(*(c.ravel()[:20] for c in columns), strict=True):
            for exact, rounded in (
                (Fraction(centre) - Fraction(bound), Fraction(lower)),
                (Fraction(centre) + Fraction(bound), Fraction(upper)),
            ):
                step = max(quantum, Fraction(2) ** (exponent(exact) - fmt.significand_bits + 1))
                assert abs(exact - rounded) <= step / 2 * (1 + Fraction(2) ** -20)


def exponent(value: Fraction) -> int:
    """Floor of log2 |value|; very small for zero."""
    if value == 0:
        return -10_000
    guess = abs(value.numerator).bit_length() - value.denominator.bit_length()
    return guess if abs(value) >= Fraction(2) ** guess else guess - 1
