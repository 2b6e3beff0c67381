"""The interval of ``fused_experts``' outputs: every step's bound, carried to the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from moeproof.inputs import ExpertInputs
from moeproof.number_format import FP32, number_format
from moeproof.oracle.combine import ExpertOutputs, combine
from moeproof.oracle.error_bound import DotProducts, product_bound, product_variance
from moeproof.oracle.estimate import (
    Estimate,
    after_flush,
    after_multiplication,
    after_silu,
    exactly,
)
from moeproof.oracle.forward import ActiveSlots, Transform, grouped_products, identity
from moeproof.oracle.interval import Interval
from moeproof.oracle.rules import Rules
from moeproof.rounding_profile import UNDECLARED, RoundingProfile

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Result = TypeVar("Result")
Operands = dict[str, tuple[Float64Array, Transform]]

_READ_BY_PRODUCTS = ("accumulator", "tf32", "flushes_subnormals")


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
    intervals = ExpertIntervals(inputs, dtype=dtype, independent_signs=independent_signs)
    return intervals.under(profile)


class ExpertIntervals:
    """The intervals of one call under any number of profiles.

    Profiles that follow each other share the work on the steps in which they agree.

    Args:
        inputs, dtype, independent_signs: as for :func:`expert_interval`.
        outputs: the number of outputs that the probability of a false alarm is for; by default
            those of this call.
    """

    def __init__(
        self,
        inputs: ExpertInputs,
        *,
        dtype: str,
        independent_signs: bool,
        outputs: int | None = None,
    ) -> None:
        self._inputs = inputs
        self._fmt = number_format(dtype)
        self._independent_signs = independent_signs
        self._outputs = inputs.hidden_states.size if outputs is None else outputs
        self._slots = ActiveSlots.from_inputs(inputs)
        self._last: dict[str, tuple[RoundingProfile, Any]] = {}

    def plainest_tokens(self, count: int) -> NDArray[np.int64]:
        """So many tokens, or all if there are fewer: those with the fewest slots in use, if any.

        The fewer terms a sum has, the less it hides how each was rounded.
        """
        slots = self._slots.combine(np.ones_like(self._slots.weight))[:, 0]
        return np.argsort(np.where(slots > 0, slots, np.inf), kind="stable")[:count]

    def of_tokens(self, tokens: NDArray[np.int64]) -> ExpertIntervals:
        """The same rows of the same intervals, for some of the tokens."""
        inputs = replace(
            self._inputs,
            hidden_states=self._inputs.hidden_states[tokens],
            topk_ids=self._inputs.topk_ids[tokens],
            topk_weights=self._inputs.topk_weights[tokens],
        )
        return ExpertIntervals(
            inputs,
            dtype=self._fmt.name,
            independent_signs=self._independent_signs,
            outputs=self._outputs,
        )

    def under(self, profile: RoundingProfile) -> Interval:
        """The interval of every output element under a profile."""
        rules = Rules.of(
            profile, self._fmt, outputs=self._outputs, independent_signs=self._independent_signs
        )
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return combine(self._slots, self._expert_outputs(rules), rules)

    def _expert_outputs(self, rules: Rules) -> ExpertOutputs:
        reads: tuple[str, ...] = (*_READ_BY_PRODUCTS, "gate_up", "silu", "intermediate")
        if rules.profile.weights_applied == "intermediate":
            reads += ("weights_applied", "weights_in_storage_dtype")

        def compute(rules: Rules) -> ExpertOutputs:
            gate_up, overflow = self._gate_up(rules)
            intermediate, overflow_after = _intermediate(gate_up, self._slots, rules)
            overflow = overflow | overflow_after
            intermediate = intermediate.without(overflow)
            return _expert_outputs(
                self._inputs.down_proj, self._slots, intermediate, overflow, rules
            )

        return self._shared(reads, rules, compute)

    def _gate_up(self, rules: Rules) -> tuple[Estimate, BoolArray]:
        """Both projections (S, 2I), and which slots (S, 1) may overflow there."""
        product, of_partial_sums = self._shared(
            _READ_BY_PRODUCTS, rules, lambda rules: _gate_up(self._inputs, self._slots, rules)
        )
        rounded, overflow = rules.rounded(product, rules.profile.gate_up)
        return rounded, np.asarray((overflow | of_partial_sums).any(axis=1, keepdims=True))

    def _shared(
        self, reads: tuple[str, ...], rules: Rules, compute: Callable[[Rules], Result]
    ) -> Result:
        """The result of a step, which is given only those fields of the profile that it reads."""
        profile = RoundingProfile(**{name: getattr(rules.profile, name) for name in reads})
        last = self._last.get(reads[-1])
        if last is not None and last[0] == profile:
            known: Result = last[1]
            return known
        result = compute(replace(rules, profile=profile))
        self._last[reads[-1]] = profile, result
        return result


def _gate_up(inputs: ExpertInputs, slots: ActiveSlots, rules: Rules) -> tuple[Estimate, BoolArray]:
    """Both projections (S, 2I) before any rounding, and where their partial sums may overflow."""
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
    return product, ~(dot.magnitude + product.error < FP32.largest)


def _intermediate(
    gate_up: Estimate, slots: ActiveSlots, rules: Rules
) -> tuple[Estimate, BoolArray]:
    """SiLU(gate) * up of every slot (S, I), and which slots (S, 1) may overflow there."""
    half = gate_up.value.shape[1] // 2
    gate, up = gate_up.columns(slice(None, half)), gate_up.columns(slice(half, None))
    silu, silu_overflow = rules.rounded(after_silu(gate), rules.profile.silu)
    product = after_multiplication(silu, up)
    if rules.profile.weights_applied == "intermediate":
        silu_overflow = silu_overflow | product.may_overflow()
        product = after_multiplication(exactly(rules.routing_weight(slots.weight)), product)
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
