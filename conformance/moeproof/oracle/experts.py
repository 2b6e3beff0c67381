"""The interval of ``fused_experts``' outputs: every step's bound, carried to the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.inputs import ExpertInputs
from moeproof.number_format import FP32, number_format
from moeproof.oracle.combine import ExpertOutputs, combine
from moeproof.oracle.error_bound import DotProducts, product_bound, product_variance
from moeproof.oracle.estimate import Estimate, after_flush, after_multiplication, after_silu
from moeproof.oracle.forward import ActiveSlots, Transform, grouped_products, identity
from moeproof.oracle.interval import Interval
from moeproof.oracle.profile import UNDECLARED, RoundingProfile
from moeproof.oracle.rules import Rules

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Operands = dict[str, tuple[Float64Array, Transform]]


def expert_interval(
    inputs: ExpertInputs,
    *,
    dtype: str,
    independent_signs: bool,
    profile: RoundingProfile = UNDECLARED,
) -> Interval:
    """The interval of every output element of ``fused_experts``.

    An output is right iff RN(Y - B) <= output <= RN(Y + B), where Y +- B holds every value that
    the steps' bounds (:mod:`moeproof.oracle.error_bound`) allow before the output is rounded:
    rounding to the output's format is monotone.

    Args:
        inputs: the call's arguments. Values that no slot refers to are never read.
        dtype: format of the storage and of the output, "bf16", "fp16" or "fp32".
        independent_signs: all values have independent random signs, which allows the sharper
            probabilistic bounds (false alarms below 1e-9 per call).
        profile: the implementation's declared rounding points.

    Raises:
        ValueError: ``dtype`` is not a known format.
    """
    rules = Rules.of(
        profile,
        number_format(dtype),
        outputs=inputs.hidden_states.size,
        independent_signs=independent_signs,
    )
    slots = ActiveSlots.from_inputs(inputs)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        gate_up, overflow = _gate_up(inputs, slots, rules)
        intermediate, overflow_after = _intermediate(gate_up, rules)
        overflow |= overflow_after
        intermediate = intermediate.without(overflow)
        outputs = _expert_outputs(inputs.down_proj, slots, intermediate, overflow, rules)
        return combine(slots, outputs, rules)


def _gate_up(inputs: ExpertInputs, slots: ActiveSlots, rules: Rules) -> tuple[Estimate, BoolArray]:
    """Both projections (S, 2I), and which slots (S, 1) may overflow there."""
    rows = inputs.hidden_states[slots.token].astype(np.float64)
    magnitude = np.abs(rows)
    operands: Operands = {
        "value": (rows, identity),
        "magnitude": (magnitude, np.abs),
        "norm_squared": (rows**2, np.square),
    }
    if rules.profile.flushes_subnormals:
        operands["flushed rows"] = (rules.subnormal_part(rows), np.abs)
        operands["flushed weights"] = (magnitude, rules.subnormal_part)
    sums, dot = _dot_products(slots, inputs.gate_up_proj, operands, rules)
    flushed = sums.get("flushed rows", 0.0) + sums.get("flushed weights", 0.0)
    product = _product(dot, emulated=dot.value, flushed=flushed, rules=rules)
    rounded, overflow = rules.rounded(product, rules.profile.gate_up)
    overflow |= ~(dot.magnitude + product.error < FP32.largest)  # of partial sums
    return rounded, np.asarray(overflow.any(axis=1, keepdims=True))


def _intermediate(gate_up: Estimate, rules: Rules) -> tuple[Estimate, BoolArray]:
    """SiLU(gate) * up of every slot (S, I), and which slots (S, 1) may overflow there."""
    half = gate_up.value.shape[1] // 2
    gate, up = gate_up.columns(slice(None, half)), gate_up.columns(slice(half, None))
    silu, silu_overflow = rules.rounded(after_silu(gate), rules.profile.silu)
    product = after_multiplication(silu, up)
    intermediate, overflow = rules.rounded(product, rules.profile.intermediate)
    overflow |= silu_overflow
    overflow |= ~(gate.reach * up.reach < FP32.largest)  # (gate * up) * sigmoid(gate) is legal too
    if rules.profile.flushes_subnormals:
        intermediate = after_flush(intermediate, rules.fmt)
    return intermediate, np.asarray(overflow.any(axis=1, keepdims=True))


def _expert_outputs(
    down_proj: NDArray[Any],
    slots: ActiveSlots,
    intermediate: Estimate,
    overflow: BoolArray,
    rules: Rules,
) -> ExpertOutputs:
    """The down projection (S, H) of the intermediate values; ``overflow`` (S, 1) is theirs."""
    operands: Operands = {
        "value": (intermediate.value, identity),
        "emulated": (intermediate.emulated, identity),
        "magnitude": (intermediate.reach, np.abs),
        "norm_squared": (intermediate.reach**2, np.square),
        "carried": (intermediate.error, np.abs),
        "carried_squares": (intermediate.error**2, np.square),
        "variance": (intermediate.variance, np.square),
    }
    if rules.profile.flushes_subnormals:
        operands["flushed weights"] = (intermediate.reach, rules.subnormal_part)
    sums, dot = _dot_products(slots, down_proj, operands, rules)
    flushed = sums.get("flushed weights", 0.0)
    product = _product(dot, emulated=sums["emulated"], flushed=flushed, rules=rules)
    return ExpertOutputs(
        product=replace(product, variance=product.variance + sums["variance"]),
        carried=sums["carried"],
        carried_squares=sums["carried_squares"],
        overflow=overflow | ~(dot.magnitude + product.error < FP32.largest),
        intermediate_size=down_proj.shape[2],
    )


def _dot_products(
    slots: ActiveSlots, weights: NDArray[Any], operands: Operands, rules: Rules
) -> tuple[dict[str, Float64Array], DotProducts]:
    """The sums over all operands, and what the bounds want to know of "value"'s."""
    rows = operands["magnitude"][0]
    if rules.profile.tf32:
        operands = {**operands, "sum of weights": (np.ones_like(rows), np.abs)}
    sums = grouped_products(slots, weights, operands)
    operand_sum: Float64Array | float = 0.0
    if rules.profile.tf32:
        operand_sum = rows.sum(axis=1, keepdims=True) + sums["sum of weights"]
    dot = DotProducts(
        value=sums["value"],
        magnitude=sums["magnitude"],
        norm=np.sqrt(sums["norm_squared"]),
        operand_sum=operand_sum,
        length=rows.shape[1],
    )
    return sums, dot


def _product(
    dot: DotProducts, *, emulated: Float64Array, flushed: Float64Array | float, rules: Rules
) -> Estimate:
    """A matrix product whose operands are exact, but for ``flushed`` products at most."""
    tf32 = rules.profile.tf32
    error = product_bound(dot, rules.accumulator, tail=rules.tail, tf32=tf32)
    variance = product_variance(dot, rules.accumulator, tf32=tf32)
    return Estimate(dot.value, error + flushed, emulated, variance + flushed**2)
