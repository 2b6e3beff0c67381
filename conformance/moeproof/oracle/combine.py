"""The weighted sum over each token's slots, and with it the interval of the output."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moeproof.number_format import FP32
from moeproof.oracle.error_bound import FLOAT32_ROUNDOFF, FLOAT32_UNDERFLOW
from moeproof.oracle.estimate import Estimate, after_multiplication, exactly
from moeproof.oracle.forward import ActiveSlots
from moeproof.oracle.interval import Interval
from moeproof.oracle.rules import Rules

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class ExpertOutputs:
    """Each slot's expert output before its routing weight, all (S, H).

    Attributes:
        product: the output, with the error of its own matrix product alone.
        carried: what the errors of the intermediate values add at most.
        carried_squares: the sum of the squares of the single contributions to ``carried``.
        overflow: where the output, or a value that it is made from, may overflow.
        intermediate_size: I, the number of values that each output is made from.
    """

    product: Estimate
    carried: Float64Array
    carried_squares: Float64Array
    overflow: BoolArray
    intermediate_size: int


@dataclass(frozen=True)
class _Sum:
    """The sum over a token's slots before its additions are rounded, all (T, H).

    Attributes:
        value, bound, emulated, variance: as in :class:`Interval`.
        magnitude: the sum of the terms' magnitudes.
        overflow: where a term may overflow.
    """

    value: Float64Array
    bound: Float64Array
    emulated: Float64Array
    variance: Float64Array
    magnitude: Float64Array
    overflow: BoolArray

    @property
    def reach(self) -> Float64Array:
        """The largest magnitude of any partial sum."""
        return self.magnitude + self.bound


def combine(slots: ActiveSlots, outputs: ExpertOutputs, rules: Rules) -> Interval:
    """The interval (T, H) of the weighted sum of ``outputs`` over each token's slots.

    n slots in use add n 2^-24 (sum |w y| + B) for additions in any order.
    """
    weight = rules.routing_weight(slots.weight)
    if rules.profile.weights_applied == "intermediate":
        weight = np.ones_like(weight)
    if rules.profile.expert_output == "yes":
        total = _sum_of_rounded(slots, weight, outputs, rules)
    else:
        total = _sum_of_products(slots, weight, outputs, rules)
    additions = slots.combine(np.ones_like(weight))
    total = replace(
        total,
        bound=total.bound + additions * (FLOAT32_ROUNDOFF * total.reach + FLOAT32_UNDERFLOW),
        variance=total.variance + (FLOAT32_ROUNDOFF * total.magnitude) ** 2,
        overflow=total.overflow | ~(total.reach < FP32.largest),
    )
    if rules.profile.combine_in_output_dtype:
        total = _rounded_after_every_addition(total, additions, rules)
    return Interval.around(
        total.value,
        total.bound,
        fmt=rules.fmt,
        overflow=total.overflow,
        emulated=total.emulated,
        variance=total.variance,
        errors_per_token=slots.experts_per_token() * outputs.intermediate_size,
    )


def _sum_of_products(
    slots: ActiveSlots, weight: Float64Array, outputs: ExpertOutputs, rules: Rules
) -> _Sum:
    """Terms that are not rounded, or may be: u (sum |w y| + B) and the subnormal spacing more."""
    weighted = after_multiplication(exactly(weight), outputs.product)
    magnitude = np.abs(weight)
    carried = rules.likely(
        slots.combine(magnitude * outputs.carried),
        slots.combine(magnitude * slots.weight_of_expert(weight) * outputs.carried_squares),
    )
    total = _sum(slots, weight, weighted, outputs.overflow)
    total = replace(total, bound=total.bound + carried)
    if rules.profile.expert_output == "no":
        return total
    output = replace(outputs.product, error=outputs.product.error + outputs.carried)
    overflow = output.may_overflow(rules.fmt)
    overflow |= after_multiplication(exactly(weight), output).may_overflow(rules.fmt)
    # If rounded before the weight is applied, the rounding is multiplied by it as well.
    scale = slots.combine(np.maximum(magnitude, np.ones_like(magnitude)))
    subnormal = scale * (rules.fmt.smallest_subnormal / 2)
    unit = rules.fmt.unit_roundoff
    squares = slots.combine(_repetition(slots, weight) * weighted.value**2)
    return replace(
        total,
        bound=total.bound + unit * total.reach + subnormal,
        variance=total.variance + ((unit**2) * squares + subnormal**2) / 3.0,
        overflow=total.overflow | slots.any(overflow),
    )


def _sum_of_rounded(
    slots: ActiveSlots, weight: Float64Array, outputs: ExpertOutputs, rules: Rules
) -> _Sum:
    """Terms that are rounded to the storage format before or after the weight is applied."""
    carried = rules.likely(outputs.carried, outputs.carried_squares)
    term = replace(outputs.product, error=outputs.product.error + carried)
    overflow = outputs.overflow
    if rules.profile.weights_applied in ("after", "between"):
        term, may_overflow = rules.rounded(term, "yes")
        overflow = overflow | may_overflow
    term = after_multiplication(exactly(weight), term)
    if rules.profile.weights_applied != "after":
        term, may_overflow = rules.rounded(term, "yes")
        overflow = overflow | may_overflow
    return _sum(slots, weight, term, overflow)


def _rounded_after_every_addition(total: _Sum, additions: Float64Array, rules: Rules) -> _Sum:
    """A sum in the storage format, rounded after every addition, in any order or as a tree.

    m u / (1 - m u) (sum |w y| + B) + n eta with m = n - 1 for n terms, because the last rounding
    is the output's own; it does not matter whether the terms are rounded first.
    """
    roundings = np.maximum(additions - 1, 0)
    lost = roundings * rules.fmt.unit_roundoff
    subnormal = np.where(roundings > 0, additions, 0) * (rules.fmt.smallest_subnormal / 2)
    bound = total.bound + lost / (1 - lost) * total.reach + subnormal
    flat = roundings * (rules.fmt.unit_roundoff * total.magnitude) ** 2
    total = replace(total, bound=bound, variance=total.variance + flat / 3)
    return replace(total, overflow=total.overflow | ~(total.reach < rules.fmt.largest))


def _sum(slots: ActiveSlots, weight: Float64Array, terms: Estimate, overflow: BoolArray) -> _Sum:
    return _Sum(
        value=slots.combine(terms.value),
        bound=slots.combine(terms.error),
        emulated=slots.combine(terms.emulated),
        variance=slots.combine(_repetition(slots, weight) * terms.variance),
        magnitude=slots.combine(np.abs(terms.value)),
        overflow=slots.any(overflow),
    )


def _repetition(slots: ActiveSlots, weight: Float64Array) -> Float64Array:
    """What a slot's variance counts for: more than 1 where its token names the expert again.

    Slots of one token and one expert err alike: their errors add up before they are squared, and
    w1^2 + w2^2 becomes (|w1| + |w2|)^2.
    """
    magnitude = np.abs(weight)
    together = slots.weight_of_expert(weight)
    return np.divide(together, magnitude, out=np.ones_like(magnitude), where=magnitude > 0)
