"""The interval of ``fused_experts``' outputs: every step's bound, carried to the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.inputs import ExpertInputs
from moeproof.number_format import FP32, NumberFormat, number_format
from moeproof.oracle.error_bound import (
    ACCUMULATORS,
    FLOAT32_ROUNDOFF,
    FLOAT32_UNDERFLOW,
    Accumulator,
    DotProducts,
    product_bound,
    product_variance,
    tail_factor,
)
from moeproof.oracle.estimate import (
    Estimate,
    after_flush,
    after_multiplication,
    after_rounding,
    after_silu,
)
from moeproof.oracle.forward import ActiveSlots, Transform, grouped_products, identity
from moeproof.oracle.interval import Interval
from moeproof.oracle.profile import UNDECLARED, Rounding, RoundingProfile
from moeproof.oracle.rounding import round_to_nearest

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
    fmt = number_format(dtype)
    tail = tail_factor(inputs.hidden_states.size) if independent_signs else None
    step = _Steps.of(profile, fmt, tail)
    slots = ActiveSlots.from_inputs(inputs)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        intermediate, overflow = step.intermediate(inputs, slots)
        outputs = step.expert_outputs(inputs.down_proj, slots, intermediate, overflow)
        return step.combined(slots, outputs)


@dataclass(frozen=True)
class _ExpertOutputs:
    """Each slot's expert output before its routing weight, (S, H).

    Attributes:
        product: the output and the error of its own matrix product.
        carried: what the errors of the intermediate values add at most.
        carried_squares: sum of the squares of the single contributions to ``carried``.
        overflow: where the output, or a value it is made from, may overflow.
    """

    product: Estimate
    carried: Float64Array
    carried_squares: Float64Array
    overflow: BoolArray


@dataclass(frozen=True)
class _Steps:
    """The steps of one call, under one implementation's rules.

    Attributes:
        fmt: storage format. profile: rounding points. accumulator: of the matrix products.
        tail: lambda of the probabilistic bounds, None for worst cases only.
    """

    fmt: NumberFormat
    profile: RoundingProfile
    accumulator: Accumulator
    tail: float | None

    @classmethod
    def of(cls, profile: RoundingProfile, fmt: NumberFormat, tail: float | None) -> _Steps:
        accumulator = profile.accumulator
        if accumulator == "default":
            accumulator = "fma" if fmt == FP32 else "mma"
        if fmt == FP32:  # every value is a float32 already: rounding to storage does nothing
            profile = replace(
                profile, gate_up="no", silu="no", intermediate="no", expert_output="no"
            )
        return cls(fmt, profile, ACCUMULATORS[accumulator], tail)

    def intermediate(self, inputs: ExpertInputs, slots: ActiveSlots) -> tuple[Estimate, BoolArray]:
        """SiLU(gate) * up of every slot (S, I), and which slots (S, 1) may overflow on the way."""
        rows = inputs.hidden_states[slots.token].astype(np.float64)
        gate_up, overflow = self._gate_up(rows, inputs.gate_up_proj, slots)
        half = gate_up.value.shape[1] // 2
        gate, up = gate_up.columns(slice(None, half)), gate_up.columns(slice(half, None))
        silu, silu_overflow = self._rounded(after_silu(gate), self.profile.silu)
        value, overflow_here = self._rounded(
            after_multiplication(silu, up), self.profile.intermediate
        )
        # Some kernels compute (gate * up) * sigmoid(gate).
        overflow_here |= silu_overflow | ~(gate.reach * up.reach < FP32.largest)
        overflow |= overflow_here.any(axis=1, keepdims=True)
        if self.profile.flushes_subnormals:
            value = after_flush(value, self.fmt)
        return value.without(overflow), overflow

    def expert_outputs(
        self,
        down_proj: NDArray[Any],
        slots: ActiveSlots,
        intermediate: Estimate,
        overflow: BoolArray,
    ) -> _ExpertOutputs:
        """The down projection (S, H) of the intermediate values."""
        operands: Operands = {
            "value": (intermediate.value, identity),
            "emulated": (intermediate.emulated, identity),
            "magnitude": (intermediate.reach, np.abs),
            "norm_squared": (intermediate.reach**2, np.square),
            "carried": (intermediate.error, np.abs),
            "carried_squares": (intermediate.error**2, np.square),
            "variance": (intermediate.variance, np.square),
        }
        if self.profile.flushes_subnormals:
            operands["flushed"] = (intermediate.reach, self._subnormal_part)
        sums, dot = self._products(slots, down_proj, operands)
        variance = product_variance(dot, self.accumulator, tf32=self.profile.tf32)
        product = Estimate(
            dot.value,
            self._product_bound(dot) + sums.get("flushed", 0.0),
            sums["emulated"],
            sums["variance"] + variance,
        )
        overflow = overflow | ~(dot.magnitude + product.error < FP32.largest)
        return _ExpertOutputs(product, sums["carried"], sums["carried_squares"], overflow)

    def combined(self, slots: ActiveSlots, outputs: _ExpertOutputs) -> Interval:
        """The weighted sum (T, H) over each token's slots."""
        weight = slots.weight
        if self.profile.weights_in_storage_dtype:
            weight = round_to_nearest(weight, self.fmt)
        nothing = np.zeros_like(weight)
        factor = Estimate(weight, nothing, weight, nothing)
        rounding, half_subnormal = self.profile.expert_output, self.fmt.smallest_subnormal / 2
        total = self._with_carried(outputs)
        if rounding == "yes":
            if self.profile.weights_applied == "before":
                weighted, overflow = self._rounded(after_multiplication(factor, total), rounding)
            else:
                rounded, overflow = self._rounded(total, rounding)
                weighted = after_multiplication(factor, rounded)
            bound = slots.combine(weighted.error)
        else:
            weighted = after_multiplication(factor, outputs.product)
            overflow = np.zeros_like(outputs.overflow)
            carried = slots.combine(np.abs(weight) * outputs.carried)
            if self.tail is not None:
                squares = np.abs(weight) * slots.weight_of_expert(weight) * outputs.carried_squares
                carried = np.minimum(carried, self.tail * np.sqrt(slots.combine(squares)))
            bound = slots.combine(weighted.error) + carried
        sum_of_magnitudes = slots.combine(np.abs(weighted.value))
        variance = slots.combine(weighted.variance)
        if rounding == "maybe":
            overflow |= total.may_overflow(self.fmt)
            overflow |= after_multiplication(factor, total).may_overflow(self.fmt)
            # Before or after the weight, whose factor then applies to the rounding as well.
            subnormals = slots.combine(np.fmax(np.abs(weight), np.ones_like(weight)))
            subnormals *= half_subnormal
            bound = bound + self.fmt.unit_roundoff * (sum_of_magnitudes + bound) + subnormals
            squares = slots.combine(weighted.value**2)
            flat = self.fmt.unit_roundoff**2 * squares + subnormals**2
            variance = variance + flat / 3
        additions = slots.combine(np.ones_like(weight))
        reach = sum_of_magnitudes + bound
        bound = bound + additions * (FLOAT32_ROUNDOFF * reach + FLOAT32_UNDERFLOW)
        variance = variance + (FLOAT32_ROUNDOFF * sum_of_magnitudes) ** 2
        overflow = overflow | outputs.overflow
        overflow = slots.combine(overflow.astype(np.float64)) > 0
        if self.profile.combine_in_output_dtype:
            lost = additions * self.fmt.unit_roundoff
            bound = bound + lost / (1 - lost) * (sum_of_magnitudes + bound)
            bound = bound + additions * half_subnormal
            variance = variance + additions * (self.fmt.unit_roundoff * sum_of_magnitudes) ** 2 / 3
            overflow |= ~(sum_of_magnitudes + bound < self.fmt.largest)
        return Interval.around(
            slots.combine(weighted.value),
            bound,
            fmt=self.fmt,
            overflow=overflow | ~(reach < FP32.largest),
            emulated=slots.combine(weighted.emulated),
            variance=variance,
        )

    def _gate_up(
        self, rows: Float64Array, gate_up_proj: NDArray[Any], slots: ActiveSlots
    ) -> tuple[Estimate, BoolArray]:
        """Both projections (S, 2I), and which slots (S, 1) may overflow."""
        magnitude = np.abs(rows)
        operands: Operands = {
            "value": (rows, identity),
            "magnitude": (magnitude, np.abs),
            "norm_squared": (rows**2, np.square),
        }
        if self.profile.flushes_subnormals:
            operands["flushed rows"] = (self._subnormal_part(rows), np.abs)
            operands["flushed weights"] = (magnitude, self._subnormal_part)
        sums, dot = self._products(slots, gate_up_proj, operands)
        error = self._product_bound(dot)
        if self.profile.flushes_subnormals:
            error = error + sums["flushed rows"] + sums["flushed weights"]
        overflow = ~(dot.magnitude + error < FP32.largest)
        variance = product_variance(dot, self.accumulator, tf32=self.profile.tf32)
        gate_up, rounding_overflow = self._rounded(
            Estimate(dot.value, error, dot.value, variance), self.profile.gate_up
        )
        overflow |= rounding_overflow
        return gate_up, np.asarray(overflow.any(axis=1, keepdims=True))

    def _products(
        self, slots: ActiveSlots, weights: NDArray[Any], operands: Operands
    ) -> tuple[dict[str, Float64Array], DotProducts]:
        if self.profile.tf32:
            rows = operands["magnitude"][0]
            operands["operand sum of weights"] = (np.ones_like(rows), np.abs)
        sums = grouped_products(slots, weights, operands)
        operand_sum: Float64Array | float = 0.0
        if self.profile.tf32:
            row_sums = operands["magnitude"][0].sum(axis=1, keepdims=True)
            operand_sum = row_sums + sums["operand sum of weights"]
        return sums, DotProducts(
            sums["value"],
            sums["magnitude"],
            np.sqrt(sums["norm_squared"]),
            operand_sum,
            weights.shape[2],
        )

    def _product_bound(self, dot: DotProducts) -> Float64Array:
        return product_bound(dot, self.accumulator, tail=self.tail, tf32=self.profile.tf32)

    def _rounded(self, exact: Estimate, rounding: Rounding) -> tuple[Estimate, BoolArray]:
        """After a rounding point, and where it may overflow."""
        fmt = FP32 if rounding == "no" else self.fmt
        return after_rounding(exact, self.fmt, rounding), exact.may_overflow(fmt)

    def _with_carried(self, outputs: _ExpertOutputs) -> Estimate:
        carried = outputs.carried
        if self.tail is not None:
            carried = np.minimum(carried, self.tail * np.sqrt(outputs.carried_squares))
        return replace(outputs.product, error=outputs.product.error + carried)

    def _subnormal_part(self, values: Float64Array) -> Float64Array:
        """Magnitudes of the subnormal values, zero for all others."""
        magnitude = np.abs(values)
        return np.where(magnitude < 2.0**self.fmt.min_exponent, magnitude, 0.0)
