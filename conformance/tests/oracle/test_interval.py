from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from moeproof.inputs import ExpertInputs
from moeproof.number_format import number_format
from moeproof.oracle import (
    R_LIMIT,
    Interval,
    RoundingProfile,
    expert_forward,
    expert_interval,
    r_statistic,
)

DTYPES = ("bf16", "fp16", "fp32")


def random_inputs(
    tokens: int = 5,
    hidden: int = 24,
    intermediate: int = 20,
    experts: int = 4,
    top_k: int = 2,
    *,
    dtype: str = "bf16",
    seed: int = 0,
) -> ExpertInputs:
    random = np.random.default_rng(seed)
    store = number_format(dtype).numpy_dtype
    ids = np.argsort(random.random((tokens, experts)), axis=1)[:, :top_k]
    weights = random.random((tokens, top_k)) + 0.1
    return ExpertInputs(
        random.standard_normal((tokens, hidden)).astype(store),
        (2 * random.standard_normal((experts, 2 * intermediate, hidden)) / hidden**0.5).astype(
            store
        ),
        (random.standard_normal((experts, hidden, intermediate)) / intermediate**0.5).astype(store),
        ids.astype(np.int32),
        weights.astype(np.float32),
    )


def right_output(inputs: ExpertInputs) -> np.ndarray:
    return expert_forward(inputs).astype(inputs.hidden_states.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("independent_signs", [False, True])
@pytest.mark.parametrize(
    "sizes", [(0, 8, 8, 4, 2), (1, 1, 1, 1, 1), (3, 1, 5, 2, 2), (3, 5, 1, 2, 1), (7, 9, 6, 3, 3)]
)
def test_every_size_has_an_interval_that_holds_the_right_output(
    dtype: str, independent_signs: bool, sizes: tuple[int, ...]
) -> None:
    inputs = random_inputs(*sizes, dtype=dtype)
    interval = expert_interval(inputs, dtype=dtype, independent_signs=independent_signs)
    assert interval.centre.shape == (sizes[0], sizes[1])
    assert (interval.lower <= interval.upper).all()
    assert not interval.overflow.any()
    assert interval.accepts(right_output(inputs)).all()
    np.testing.assert_array_equal(interval.centre, expert_forward(inputs))


def test_forward_is_the_sum_over_slots() -> None:
    inputs = random_inputs(dtype="fp32")
    expected = np.zeros(inputs.hidden_states.shape)
    for token, ids in enumerate(inputs.topk_ids):
        for slot, expert in enumerate(ids):
            row = inputs.hidden_states[token].astype(np.float64)
            gate, up = np.split(inputs.gate_up_proj[expert].astype(np.float64) @ row, 2)
            hidden = gate / (1 + np.exp(-gate)) * up
            output = inputs.down_proj[expert].astype(np.float64) @ hidden
            expected[token] += inputs.topk_weights[token, slot] * output
    np.testing.assert_allclose(expert_forward(inputs), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("missing", [-1, 4, 2**31 - 1, -(2**31)])
def test_slots_without_an_expert_contribute_nothing(missing: int) -> None:
    inputs = random_inputs()
    ids, weights = inputs.topk_ids.copy(), inputs.topk_weights.copy()
    ids[0] = missing
    ids[1, 0] = missing
    weights[0] = np.nan
    interval = expert_interval(
        replace(inputs, topk_ids=ids, topk_weights=weights), dtype="bf16", independent_signs=False
    )
    for array in (interval.centre, interval.bound, interval.lower, interval.upper):
        assert (array[0] == 0).all()
    one_slot = replace(inputs, topk_ids=ids[1:2, 1:], topk_weights=weights[1:2, 1:])
    alone = expert_interval(
        replace(one_slot, hidden_states=inputs.hidden_states[1:2]),
        dtype="bf16",
        independent_signs=False,
    )
    np.testing.assert_allclose(interval.centre[1], alone.centre[0], rtol=1e-12)
    np.testing.assert_allclose(interval.bound[1], alone.bound[0], rtol=1e-12)


@pytest.mark.filterwarnings("error")
def test_values_nobody_refers_to_are_never_read() -> None:
    inputs = random_inputs(experts=6)
    ids = np.where(inputs.topk_ids == 3, -1, inputs.topk_ids).astype(np.int32)
    ids[2] = -1
    poisoned = {name: array.copy() for name, array in inputs.arrays().items()}
    poisoned["topk_ids"] = ids
    poisoned["gate_up_proj"][3] = np.nan
    poisoned["down_proj"][3] = np.nan
    poisoned["hidden_states"][2].view(np.uint16)[:] = 0xFF81  # a signalling NaN
    clean = expert_interval(replace(inputs, topk_ids=ids), dtype="bf16", independent_signs=True)
    dirty = expert_interval(ExpertInputs(**poisoned), dtype="bf16", independent_signs=True)
    np.testing.assert_array_equal(clean.lower, dirty.lower)
    np.testing.assert_array_equal(clean.upper, dirty.upper)
    assert not dirty.overflow.any()


@pytest.mark.parametrize("independent_signs", [False, True])
def test_a_repeated_expert_has_the_bound_of_the_summed_weight(independent_signs: bool) -> None:
    inputs = random_inputs(intermediate=200, experts=1, top_k=1, dtype="bf16")
    inputs = replace(inputs, topk_weights=np.ones_like(inputs.topk_weights))
    repeated = replace(
        inputs,
        topk_ids=np.repeat(inputs.topk_ids, 3, axis=1),
        topk_weights=np.repeat(inputs.topk_weights / np.float32(4), 3, axis=1),
    )
    once = expert_interval(
        replace(inputs, topk_weights=inputs.topk_weights * np.float32(0.75)),
        dtype="bf16",
        independent_signs=independent_signs,
    )
    thrice = expert_interval(repeated, dtype="bf16", independent_signs=independent_signs)
    np.testing.assert_allclose(thrice.centre, once.centre, rtol=1e-9)
    assert (thrice.bound >= once.bound).all()
    np.testing.assert_allclose(thrice.bound, once.bound, rtol=1e-4)


def tiny_interval() -> Interval:
    inputs = random_inputs(2, 3, 4, 2, 1, dtype="fp16")
    return expert_interval(inputs, dtype="fp16", independent_signs=False)


def test_error_ratio_is_above_one_exactly_where_refused() -> None:
    interval = tiny_interval()
    above = np.nextafter(interval.upper.astype(np.float16), np.float16(np.inf))
    below = np.nextafter(interval.lower.astype(np.float16), np.float16(-np.inf))
    for inside in (interval.lower, interval.upper, interval.centre):
        assert interval.accepts(inside).all()
        assert (interval.error_ratio(inside) <= 1).all()
    for outside in (above, below):
        assert not interval.accepts(outside).any()
        ratio = interval.error_ratio(outside)
        assert ((ratio > 1) & (ratio < 2)).all()


def test_values_that_are_not_numbers_are_refused() -> None:
    interval = tiny_interval()
    for value in (np.nan, np.inf, -np.inf):
        actual = np.full(interval.centre.shape, value, dtype=np.float16)
        assert not interval.accepts(actual).any()
        assert np.isposinf(interval.error_ratio(actual)).all()


def test_negative_zero_is_zero() -> None:
    inputs = random_inputs()
    masked = replace(inputs, topk_ids=np.full_like(inputs.topk_ids, -1))
    interval = expert_interval(masked, dtype="bf16", independent_signs=False)
    zeros = np.zeros_like(inputs.hidden_states)
    assert interval.accepts(-zeros).all()
    assert (interval.error_ratio(-zeros) == 0).all()
    assert not interval.accepts(zeros + ml_dtypes.bfloat16(2.0**-133)).any()


def test_a_wrong_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\), got \(3, 2\)"):
        tiny_interval().accepts(np.zeros((3, 2)))


def test_elements_that_may_overflow_are_not_judged() -> None:
    inputs = random_inputs(dtype="fp16")
    hidden = inputs.hidden_states.copy()
    hidden[1] *= np.float16(2.0**12)
    interval = expert_interval(
        replace(inputs, hidden_states=hidden), dtype="fp16", independent_signs=False
    )
    assert interval.overflow[1].all()
    assert not interval.overflow[[0, 2, 3, 4]].any()
    actual = right_output(inputs)
    actual[1] = np.nan
    assert interval.accepts(actual).all()
    assert (interval.error_ratio(actual)[1] == 0).all()


@pytest.mark.parametrize("weights_applied", ["before", "after"])
def test_a_rounding_point_that_may_overflow_is_not_judged(weights_applied: str) -> None:
    inputs = random_inputs(tokens=1, experts=1, top_k=1, dtype="fp16")
    inputs = replace(
        inputs,
        down_proj=np.full_like(inputs.down_proj, 60000),
        topk_weights=np.full_like(inputs.topk_weights, 2.0**-8),
    )

    def overflow(expert_output: str) -> np.ndarray:
        profile = RoundingProfile("no", "no", "no", expert_output, weights_applied)
        interval = expert_interval(inputs, dtype="fp16", independent_signs=False, profile=profile)
        return interval.overflow

    assert np.abs(expert_forward(inputs)).max() * 2.0**8 > 65504
    assert not overflow("no").any()
    assert overflow("yes").any() == (weights_applied == "after")
    assert overflow("maybe").any()


def test_gate_times_up_may_overflow_before_the_sigmoid_is_applied() -> None:
    """(gate * up) * sigmoid(gate) is a legal order, and infinite here."""
    inputs = ExpertInputs(
        np.ones((1, 1), dtype=np.float32),
        np.array([[[-80], [1e37]]], dtype=np.float32),
        np.ones((1, 1, 1), dtype=np.float32),
        np.zeros((1, 1), dtype=np.int32),
        np.ones((1, 1), dtype=np.float32),
    )
    assert expert_interval(inputs, dtype="fp32", independent_signs=False).overflow.all()
    inputs.gate_up_proj[0, 0] = -20
    assert not expert_interval(inputs, dtype="fp32", independent_signs=False).overflow.any()


def test_a_declared_profile_is_tighter() -> None:
    inputs = random_inputs()
    open_bound = expert_interval(inputs, dtype="bf16", independent_signs=False).bound
    declared = expert_interval(
        inputs,
        dtype="bf16",
        independent_signs=False,
        profile=RoundingProfile("no", "no", "yes", "no"),
    )
    assert np.median(declared.bound) < np.median(open_bound) / 30


def test_r_statistic_tells_right_outputs_from_less_accurate_ones() -> None:
    inputs = random_inputs(16, 64, 64, 4, 2, dtype="fp32")
    interval = expert_interval(inputs, dtype="fp32", independent_signs=True)
    assert r_statistic(right_output(inputs), interval) < R_LIMIT
    noise = np.random.default_rng(0).standard_normal(interval.centre.shape)
    assert r_statistic(interval.centre * (1 + 2.0**-14 * noise), interval) > R_LIMIT
    assert r_statistic(np.full(interval.centre.shape, np.nan), interval) == 4.0


def test_r_statistic_needs_enough_outputs() -> None:
    with pytest.raises(ValueError, match="at least 64"):
        r_statistic(np.zeros((2, 3)), tiny_interval())


@pytest.mark.parametrize(
    ("intermediate", "independent"), [(1, 4), (15, 60), (16, 64), (40, 160), (60, 192)]
)
def test_r_statistic_allows_for_outputs_that_err_together(
    intermediate: int, independent: int
) -> None:
    """Two tokens of two experts each: their outputs share so many intermediate values."""
    inputs = random_inputs(2, 96, intermediate, 4, 2, dtype="fp16")
    interval = expert_interval(inputs, dtype="fp16", independent_signs=True)
    assert interval.independent_outputs == independent
    worst = r_statistic(np.full(interval.centre.shape, np.nan), interval)
    assert worst == pytest.approx(4 * min(1, independent / 64) ** 0.5)


def test_repeated_experts_and_masked_slots_add_no_independent_outputs() -> None:
    inputs = random_inputs(3, 24, 5, 4, 2)
    ids = np.array([[1, 1], [-1, 2], [-1, -1]], dtype=np.int32)
    interval = expert_interval(replace(inputs, topk_ids=ids), dtype="bf16", independent_signs=True)
    assert interval.independent_outputs == 5 + 5 + 0
