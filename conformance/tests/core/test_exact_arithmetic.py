"""Answers in integers: each number is rounded as numpy rounds it, and inexact cases are refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeproof.case import Case, ValueFamily
from moeproof.exact_arithmetic import (
    FixedPoint,
    NotExactError,
    encode,
    exact_output_bits,
    exact_silu,
)
from moeproof.inputs import ExpertInputs, make_inputs
from moeproof.number_format import BF16, FP16, FP32, STORAGE_FORMATS, NumberFormat
from moeproof.problem import Problem
from moeproof.random_source import round_to_storage

FORMATS = st.sampled_from([BF16, FP16, FP32])


def as_float(bits: int, fmt: NumberFormat) -> float:
    unsigned = np.dtype(f"u{fmt.numpy_dtype.itemsize}")
    return float(np.array([bits], dtype=unsigned).view(fmt.numpy_dtype)[0])


@given(FORMATS, st.integers(-(2**40), 2**40), st.integers(0, 160))
def test_numbers_are_rounded_once_to_nearest_even(
    fmt: NumberFormat, integer: int, fraction_bits: int
) -> None:
    value = np.ldexp(float(integer), -fraction_bits)  # exact: 41 bits, above 2**-200
    rounded = float(round_to_storage(np.array([value]), fmt.numpy_dtype)[0])
    if fmt is BF16 and 0 < abs(value) < 2.0**-126:
        return  # below float32's normal range numpy's way to bf16 rounds twice
    if np.isinf(rounded):
        with pytest.raises(NotExactError, match="overflows"):
            encode(integer, fraction_bits, fmt)
    else:
        assert as_float(encode(integer, fraction_bits, fmt), fmt) == rounded


@given(st.integers(-(2**20), 2**20), st.integers(130, 160))
def test_bf16_subnormals_are_rounded_once(integer: int, fraction_bits: int) -> None:
    exact = Fraction(integer, 2**fraction_bits)
    spacing = Fraction(1, 2**133)
    encoded = Fraction(as_float(encode(integer, fraction_bits, BF16), BF16))
    if abs(exact) < Fraction(1, 2**126):
        assert encoded == round(exact / spacing) * spacing  # Python rounds ties to even


@pytest.mark.parametrize(
    ("integer", "fraction_bits", "bits"),
    [(0, 0, 0), (1, 0, 0x3C00), (-3, 1, 0xBE00), (65504, 0, 0x7BFF), (1, 24, 1), (1, 25, 0)],
)
def test_fp16_bits(integer: int, fraction_bits: int, bits: int) -> None:
    assert encode(integer, fraction_bits, FP16) == bits


def test_fixed_point_has_the_fewest_bits_that_hold_the_numbers() -> None:
    numbers = FixedPoint.of(np.array([0.75, -2.0, 0.0], dtype=np.float32))
    assert numbers.fraction_bits == 2
    assert numbers.integers.tolist() == [3, -8, 0]
    with pytest.raises(NotExactError, match="fraction bits"):
        FixedPoint.of(np.array([2.0**-41]))
    reduced = FixedPoint(np.array([4, 12]), 3).reduced()
    assert (reduced.integers.tolist(), reduced.fraction_bits) == ([1, 3], 1)


def test_products_never_wrap() -> None:
    large = FixedPoint(np.array([[2**31]]), 0)
    with pytest.raises(NotExactError, match="64-bit"):
        large.products_with(large)


@pytest.mark.parametrize("gate", [-109.0, -1.0, 0.5, 31.0])
def test_gates_whose_silu_is_rounded_are_refused(gate: float) -> None:
    with pytest.raises(NotExactError, match=f"SiLU of {gate} is not exact"):
        exact_silu(FixedPoint.of(np.array([64.0, gate])))


def test_silu_is_the_identity_or_zero() -> None:
    silu = exact_silu(FixedPoint.of(np.array([32.5, 255.0, 0.0, -110.0, -300.0])))
    assert (silu.integers / 2.0**silu.fraction_bits).tolist() == [32.5, 255.0, 0.0, 0.0, 0.0]


def test_an_answer_by_hand() -> None:
    """Two tokens, one expert, id -1 in one slot; gate 64, up 3 and -5, weights 1/2 and 1/4."""
    inputs = ExpertInputs(
        hidden_states=np.array([[1.0, 3.0], [1.0, -5.0]], dtype=np.float32),
        gate_up_proj=np.array([[[64.0, 0.0], [0.0, 1.0]]], dtype=np.float32),
        down_proj=np.array([[[1.0], [-2.0]]], dtype=np.float32),
        topk_ids=np.array([[0, -1], [0, 0]], dtype=np.int32),
        topk_weights=np.array([[0.5, 1.0], [0.5, 0.25]], dtype=np.float32),
    )
    output = exact_output_bits(inputs, FP32).view(np.float32)
    assert output.tolist() == [[96.0, -192.0], [-240.0, 480.0]]


def test_ordinary_values_have_no_exact_answer() -> None:
    case = Case(Problem(3, 8, 4, 2, 1, "bf16"), "uniform", ValueFamily.RANDOM)
    with pytest.raises(NotExactError):
        exact_output_bits(make_inputs(case), BF16)


@pytest.mark.parametrize("dtype", STORAGE_FORMATS)
@pytest.mark.parametrize("family", [family for family in ValueFamily if family.is_exact])
def test_operands_and_sums_keep_to_what_every_vendor_holds(family: ValueFamily, dtype: str) -> None:
    """Sums of magnitudes stay below 2**23 quanta: no order of float32 additions rounds."""
    case = Case(Problem(7, 96, 70, 3, 2, dtype), "uniform", family)
    inputs = make_inputs(case)
    for expert in range(3):
        rows = np.abs(inputs.hidden_states.astype(np.float64))
        weights = FixedPoint.of(inputs.gate_up_proj[expert])
        states = FixedPoint.of(inputs.hidden_states)
        quanta = 2.0 ** (weights.fraction_bits + states.fraction_bits)
        magnitude = rows @ np.abs(inputs.gate_up_proj[expert].astype(np.float64)).T
        coarse = family is ValueFamily.EXACT_OPERANDS  # there one operand is always +-1 or a level
        assert (magnitude * (2.0**states.fraction_bits if coarse else quanta) < 2.0**23).all()
