"""Every bound holds for legal arithmetic on values made to break it, and is not slack."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from moeproof.number_format import BF16, FP16, FP32, NumberFormat
from moeproof.oracle.error_bound import (
    ACCUMULATORS,
    DotProducts,
    product_bound,
    silu_bound,
    silu_evaluation_error,
    silu_slope,
)
from moeproof.oracle.estimate import Estimate, after_multiplication, after_rounding
from moeproof.oracle.forward import sigmoid, silu
from moeproof.oracle.rounding import round_to_nearest

from .simulated_products import (
    MATRIX_UNITS,
    PRODUCTS,
    Array,
    matrix_unit,
    sequential,
    through_tf32,
    to_float32,
)

EVERY_PRODUCT = {**PRODUCTS, **MATRIX_UNITS}


def dot_products(rows: Array, weights: Array) -> DotProducts:
    terms = rows[:, None, :] * weights
    return DotProducts(
        terms.sum(axis=2),
        np.abs(terms).sum(axis=2),
        np.sqrt((terms**2).sum(axis=2)),
        np.abs(rows).sum(axis=1)[:, None] + np.abs(weights).sum(axis=2),
        rows.shape[1],
    )


def ratio(name: str, rows: Array, weights: Array, tail: float | None = None) -> float:
    dot = dot_products(rows, weights)
    accumulator = ACCUMULATORS["mma" if name in MATRIX_UNITS else "fma"]
    bound = product_bound(dot, accumulator, tail=tail, tf32=False)
    return float((np.abs(EVERY_PRODUCT[name](rows, weights) - dot.value) / bound).max())


def awkward(random: np.random.Generator, shape: tuple[int, ...], fmt: NumberFormat) -> Array:
    """Numbers of any magnitude, few or many bits, with runs of equal and of opposite ones."""
    spread = int(random.choice([0, 1, 4, 12]))
    values = random.uniform(0.5, 1, shape) * 2.0 ** random.integers(-spread, spread + 1, shape)
    if random.integers(2):
        values = 2.0 ** np.round(np.log2(values))
    signs = random.choice([np.ones(shape), random.choice([-1, 1], shape)], axis=0)
    values = round_to_nearest(values * signs, fmt)
    if random.integers(2) and shape[-1] > 2:
        half = shape[-1] // 2
        values[..., half : 2 * half] = values[..., :half]
    return values


@pytest.mark.parametrize("fmt", [BF16, FP16, FP32], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("name", EVERY_PRODUCT)
def test_products_stay_within_the_worst_case(fmt: NumberFormat, name: str) -> None:
    if fmt == FP32 and name in MATRIX_UNITS:
        fmt = FP16  # matrix units take no float32 operands; a second round of fp16
    random = np.random.default_rng([fmt.significand_bits, *name.encode()])
    for _ in range(40):
        length = int(random.choice([1, 2, 3, 7, 16, 40, 65]))
        rows = awkward(random, (4, length), fmt)
        weights = awkward(random, (4, 8, length), fmt)
        if random.integers(2):  # the second half takes the first half back, almost
            weights[:, :, length // 2 :] *= -1
        assert ratio(name, rows, weights) <= 1


@pytest.mark.parametrize("name", EVERY_PRODUCT)
@pytest.mark.parametrize("length", [1, 5, 64, 200])
def test_random_signs_stay_within_the_probabilistic_bound(name: str, length: int) -> None:
    random = np.random.default_rng([length, *name.encode()])
    rows = round_to_nearest(random.standard_normal((16, length)), FP16)
    weights = round_to_nearest(random.standard_normal((16, 16, length)), FP16)
    assert ratio(name, rows, weights, tail=7.0) <= 0.5


def test_the_worst_case_of_float32_is_attained() -> None:
    """One, then addends of half a unit in the last place, each of which a tie rounds away."""
    length = 400
    weights = np.full((1, 1, length), 2.0**-24)
    weights[0, 0, 0] = 1.0
    assert 0.95 < ratio("sequential", np.ones((1, length)), weights) <= 1
    bound = product_bound(
        dot_products(np.ones((1, length)), weights), ACCUMULATORS["fma"], tail=None, tf32=False
    )
    assert abs(sequential(np.ones((1, length)), weights) - weights.sum()) > bound / 2


def test_the_worst_case_of_matrix_units_is_attained() -> None:
    """One, then addends of almost a unit in the last place, each of which is cut away."""
    length = 401
    rows = np.ones((1, length))
    weights = np.full((1, 1, length), (1 - 2.0**-8) * 2.0**-23)
    weights[0, 0, 0] = 1.0
    assert 0.95 < ratio("4 cut at 23", rows, weights) <= 1
    assert ratio("8 cut at 24", rows, weights) <= 0.55
    dot = dot_products(rows, weights)
    of_fma = product_bound(dot, ACCUMULATORS["fma"], tail=None, tf32=False)
    assert abs(matrix_unit(4, 23)(rows, weights) - dot.value) > of_fma  # the class matters


def test_products_that_underflow_stay_within_the_worst_case() -> None:
    """Products and sums below 2^-126 that are flushed to zero, among larger ones."""
    random = np.random.default_rng(2)
    for exponent in (-130, -127, -125, -120):
        magnitudes = random.uniform(0.5, 1, (8, 8, 33)) * 2.0 ** (exponent + 60)
        weights = to_float32(magnitudes * random.choice([-1, 1, 1], magnitudes.shape))
        assert ratio("flushing", np.full((8, 33), 2.0**-60), weights) <= 1
    weights = np.full((1, 1, 33), 2.0**-67)
    flushed = np.abs(EVERY_PRODUCT["flushing"](np.full((1, 33), 2.0**-60), weights))
    assert flushed == 0


class TestTf32:
    product = staticmethod(through_tf32(matrix_unit(4, 23)))

    def ratio(self, rows: Array, weights: Array, *, tf32: bool = True) -> Array:
        dot = dot_products(rows, weights)
        bound = product_bound(dot, ACCUMULATORS["mma"], tail=None, tf32=tf32)
        return np.abs(self.product(rows, weights) - dot.value) / bound

    def test_random_operands_stay_within_the_bound(self) -> None:
        random = np.random.default_rng(3)
        rows = to_float32(random.standard_normal((16, 33)))
        weights = to_float32(random.standard_normal((16, 16, 33)))
        assert (self.ratio(rows, weights) <= 1).all()
        assert (self.ratio(rows, weights, tf32=False) > 1).mean() > 0.9

    def test_the_bound_is_attained(self) -> None:
        """Operands that lose almost a whole unit in the last place of eleven bits."""
        operand = 1 + 2.0**-10 - 2.0**-23
        worst = self.ratio(np.full((1, 33), operand), np.full((1, 1, 33), operand))
        assert 0.95 < worst.max() <= 1

    def test_subnormal_operands_stay_within_the_bound(self) -> None:
        random = np.random.default_rng(4)
        rows = np.ldexp(random.integers(1, 2**16, (16, 33)) * 1.0, -149)
        weights = to_float32(random.uniform(0.5, 1, (16, 4, 33)) * 2.0**100)
        assert (self.ratio(rows, weights) <= 1).all()
        swapped = self.ratio(weights[:, 0], np.repeat(rows[:, None], 4, axis=1))
        assert (swapped <= 1).all()


def test_sums_of_exact_products_agree_with_rational_arithmetic() -> None:
    random = np.random.default_rng(4)
    rows, weights = awkward(random, (3, 20), FP16), awkward(random, (3, 2, 20), FP16)
    dot = dot_products(rows, weights)
    for s in range(3):
        for n in range(2):
            exact = sum(
                Fraction(a) * Fraction(b)
                for a, b in zip(rows[s].tolist(), weights[s, n].tolist(), strict=True)
            )
            error = abs(Fraction(float(dot.value[s, n])) - exact)
            assert error <= 20 * Fraction(2) ** -52 * Fraction(float(dot.magnitude[s, n]))


@pytest.mark.parametrize("gate", [-800.0, -100.25, -20.0, -1.2784645, -1e-30, 0.0, 0.7, 30.0])
def test_silu_agrees_with_decimal_arithmetic(gate: float) -> None:
    with localcontext() as context:
        context.prec = 60
        exact = float(Decimal(gate) / (1 + (-Decimal(gate)).exp()))
        slope = float(
            (1 + Decimal(gate) / (1 + Decimal(gate).exp())) / (1 + (-Decimal(gate)).exp())
        )
    value = np.array([gate])
    np.testing.assert_allclose(silu(value), exact, rtol=1e-14, atol=1e-300)
    np.testing.assert_allclose(silu_slope(value), slope, rtol=1e-9, atol=1e-15)


def float32_silu(gate: Array, random: np.random.Generator, *, units: int) -> Array:
    """SiLU in float32 by exp2, the exponential and the reciprocal off by ``units``."""
    with np.errstate(all="ignore"):
        off = units * 2.0**-23
        argument = to_float32(-gate * float(np.float32(np.log2(np.e))))
        exponential = np.exp2(argument) * (1 + off * random.choice([-1, 1], gate.shape))
        reciprocal = 1 / to_float32(1 + to_float32(exponential))
        reciprocal = to_float32(reciprocal * (1 + off / 2 * random.choice([-1, 1], gate.shape)))
        return to_float32(gate * reciprocal)


def every_gate(fmt: NumberFormat) -> Array:
    infinity = np.array([np.inf], dtype=fmt.numpy_dtype).view(np.uint16)[0]
    half = np.arange(infinity, dtype=np.uint16).view(fmt.numpy_dtype).astype(np.float64)
    return np.concatenate([half, -half])


@pytest.mark.parametrize("fmt", [BF16, FP16], ids=lambda fmt: fmt.name)
def test_silu_of_every_gate_stays_within_its_bound(fmt: NumberFormat) -> None:
    gate = every_gate(fmt)
    random = np.random.default_rng(6)
    for units in (0, 1, 2):
        error = np.abs(float32_silu(gate, random, units=units) - silu(gate))
        bound = silu_bound(gate, np.zeros_like(gate))
        assert (error <= bound).all()
    assert (error / bound).max() > 0.5


@pytest.mark.parametrize("relative", [2.0**-20, 2.0**-8, 0.5, 4.0])
def test_silu_of_an_uncertain_gate_stays_within_its_bound(relative: float) -> None:
    random = np.random.default_rng(7)
    gate = to_float32(random.standard_normal(20_000) * 2.0 ** random.integers(-6, 7, 20_000))
    error = relative * np.abs(random.choice([gate, np.full_like(gate, 2.0)], axis=0))
    moved = to_float32(gate + error * random.choice([-1, -0.5, 1], gate.shape) * (1 - 2.0**-20))
    computed = float32_silu(moved, random, units=2)
    assert (np.abs(computed - silu(gate)) <= silu_bound(gate, error)).all()


@pytest.mark.parametrize("gate", [-90.0, -16.0, -2.0, -1.3, -1.2, 0.0, 3.0, 30.0])
@pytest.mark.parametrize("error", [2.0**-20, 0.05, 1.0, 4.0])
def test_the_bound_is_what_moves_silu_the_most(gate: float, error: float) -> None:
    """And no more than that, even where SiLU has almost vanished."""
    moved = np.abs(silu(np.linspace(gate - error, gate + error, 100_001)) - silu(np.array(gate)))
    bound = float(silu_bound(np.array(gate), np.array(error)))
    assert moved.max() <= bound
    evaluation = abs(gate) * np.exp(min(gate + error, 0.0)) * 2.0**-16
    assert bound <= (moved.max() + evaluation) * 1.001 + 2.0**-118


def test_the_evaluation_error_holds_over_the_whole_range_of_the_gate() -> None:
    gate = np.linspace(-20, 20, 401)
    for shift in (-0.75, 0.75):
        assert (silu_evaluation_error(gate + shift) <= silu_evaluation_error(gate, 0.75)).all()


def test_tanh_approximations_of_silu_are_outside() -> None:
    """A tanh with a relative error of 2^-11 (PTX tanh.approx.f32)."""
    gate = np.linspace(-4, 4, 4001)
    tanh = np.tanh(gate / 2) * (1 + 2.0**-11)
    computed = 0.5 * gate * (1 + tanh)
    assert (np.abs(computed - silu(gate)) > silu_bound(gate, 0 * gate)).mean() > 0.9


def estimate(value: Array, error: Array) -> Estimate:
    return Estimate(value, error, value, np.zeros_like(value))


@pytest.mark.parametrize("fmt", [BF16, FP16], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("relative", [0.0, 2.0**-16, 2.0**-9, 0.3])
def test_rounding_points_hold_every_rounded_value(fmt: NumberFormat, relative: float) -> None:
    random = np.random.default_rng(8)
    scale = 2.0 ** random.integers(-26, 12, 20_000)
    value = random.standard_normal(20_000) * scale
    error = relative * np.abs(value)
    actual = value + error * random.uniform(-1, 1, value.shape) * (1 - 1e-12)
    rounded = round_to_nearest(actual, fmt)
    declared = after_rounding(estimate(value, error), fmt, "yes")
    assert (np.abs(rounded - declared.value) <= declared.error).all()
    undeclared = after_rounding(estimate(value, error), fmt, "maybe")
    for either in (rounded, actual):
        distance = np.abs(either - undeclared.value)
        assert (distance <= undeclared.error).all()
    unchanged = after_rounding(estimate(value, error), fmt, "no")
    assert (np.abs(actual - unchanged.value) <= unchanged.error).all()


def test_the_undeclared_rounding_point_is_attained() -> None:
    value = np.array([1 + 2.0**-8 - 2.0**-30])
    undeclared = after_rounding(estimate(value, 0 * value), BF16, "maybe")
    rounded = value.astype(ml_dtypes.bfloat16).astype(np.float64)
    assert np.abs(rounded - value) > 0.98 * undeclared.error


def test_products_of_uncertain_values_hold_all_corners() -> None:
    random = np.random.default_rng(9)
    left, right = (to_float32(random.standard_normal(5000)) for _ in range(2))
    left_error, right_error = (np.abs(random.standard_normal(5000)) for _ in range(2))
    product = after_multiplication(estimate(left, left_error), estimate(right, right_error))
    for a in (-1, 1):
        for b in (-1, 1):
            corner = to_float32((left + a * left_error) * (right + b * right_error))
            assert (np.abs(corner - product.value) <= product.error).all()


def test_sigmoid_does_not_overflow() -> None:
    values = np.array([-1e6, -745.5, 0.0, 745.5, 1e6, -np.inf, np.inf])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_allclose(sigmoid(values), [0, 0, 0.5, 1, 1, 0, 1], atol=1e-300)
