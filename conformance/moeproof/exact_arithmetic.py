"""The exact answer of an exact case, in integers alone: what the frozen vectors are made by.

Knows neither the oracle nor float arithmetic. All operands are integers times a power of two, and
so are all sums; SiLU is taken only where a right float32 SiLU is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.inputs import ExpertInputs
from moeproof.number_format import NumberFormat

Int64Array = NDArray[np.int64]

_MOST_FRACTION_BITS = 40
_LARGEST_SUM = 2**62
_TOTAL_FRACTION_BITS = 192  # of the sums over slots, which are Python's integers
_IDENTITY_FROM = 32  # 1 + exp(-32) rounds to 1 in float32
_ZERO_UP_TO = -110  # exp(110) overflows in float32


class NotExactError(ValueError):
    """The inputs have no answer that every right implementation must give."""


@dataclass(frozen=True)
class FixedPoint:
    """Integers (any shape) times 2**-fraction_bits."""

    integers: Int64Array
    fraction_bits: int

    @classmethod
    def of(cls, array: NDArray[Any]) -> FixedPoint:
        """The numbers of a float array. Raises NotExactError if they are too fine."""
        values = array.astype(np.float64)
        for bits in range(_MOST_FRACTION_BITS + 1):
            scaled = np.ldexp(values, bits)
            if (scaled == np.rint(scaled)).all() and (np.abs(scaled) < _LARGEST_SUM).all():
                return cls(scaled.astype(np.int64), bits)
        raise NotExactError(f"values need more than {_MOST_FRACTION_BITS} fraction bits")

    def reduced(self) -> FixedPoint:
        """The same numbers with the fewest fraction bits."""
        common = int(np.bitwise_or.reduce(self.integers, axis=None))
        zeros = (common & -common).bit_length() - 1 if common else self.fraction_bits
        spare = min(zeros, self.fraction_bits)
        return FixedPoint(self.integers >> spare, self.fraction_bits - spare)

    def __getitem__(self, index: Any) -> FixedPoint:
        return FixedPoint(self.integers[index], self.fraction_bits)

    def __mul__(self, other: FixedPoint) -> FixedPoint:
        _require_room(self, other, terms=1)
        product = self.integers * other.integers
        return FixedPoint(product, self.fraction_bits + other.fraction_bits)

    def products_with(self, rows: FixedPoint) -> FixedPoint:
        """(M, N): sums of products of these rows (M, K) with other ``rows`` (N, K)."""
        _require_room(self, rows, terms=self.integers.shape[1])
        sums = self.integers @ rows.integers.T
        return FixedPoint(sums, self.fraction_bits + rows.fraction_bits)


def exact_output_bits(inputs: ExpertInputs, fmt: NumberFormat) -> NDArray[Any]:
    """The bit patterns (T, H) of the right output, unsigned; zeros are +0.

    Raises:
        NotExactError: a gate's SiLU is not exact in float32, or a number is out of range.
    """
    hidden_states = FixedPoint.of(inputs.hidden_states)
    gate_up_proj, down_proj = FixedPoint.of(inputs.gate_up_proj), FixedPoint.of(inputs.down_proj)
    weights = FixedPoint.of(inputs.topk_weights)
    totals = np.zeros(inputs.hidden_states.shape, dtype=object)
    for token, slot in np.argwhere(_names_an_expert(inputs)):
        expert = inputs.topk_ids[token, slot]
        gate_up = hidden_states[token : token + 1].products_with(gate_up_proj[expert])
        half = gate_up.integers.shape[1] // 2
        intermediate = exact_silu(gate_up[:, :half]) * gate_up[:, half:]
        term = intermediate.products_with(down_proj[expert]) * weights[token, slot]
        scale = 1 << (_TOTAL_FRACTION_BITS - term.fraction_bits)
        totals[token] += term.integers[0].astype(object) * scale
    encoded = [encode(int(total), _TOTAL_FRACTION_BITS, fmt) for total in totals.ravel()]
    unsigned = np.dtype(f"u{fmt.numpy_dtype.itemsize}")
    return np.array(encoded, dtype=unsigned).reshape(totals.shape)


def exact_silu(gate: FixedPoint) -> FixedPoint:
    """g from 32 on, 0 at 0 and up to -110. Raises NotExactError for gates between."""
    one = 1 << gate.fraction_bits
    integers = gate.integers
    identity = integers >= _IDENTITY_FROM * one
    vanishes = (integers == 0) | (integers <= _ZERO_UP_TO * one)
    inexact = integers[~identity & ~vanishes]
    if inexact.size:
        raise NotExactError(f"SiLU of {inexact[0] / one} is not exact")
    return FixedPoint(np.where(identity, integers, 0), gate.fraction_bits).reduced()


def encode(integer: int, fraction_bits: int, fmt: NumberFormat) -> int:
    """The bits of integer * 2**-fraction_bits, rounded once to nearest even.

    Raises:
        NotExactError: it is larger than the format's numbers.
    """
    if not integer:
        return 0
    sign = 1 << (8 * fmt.numpy_dtype.itemsize - 1) if integer < 0 else 0
    magnitude = abs(integer)
    stored_bits = fmt.significand_bits - 1
    exponent = max(magnitude.bit_length() - 1 - fraction_bits, fmt.min_exponent)
    shift = exponent - stored_bits + fraction_bits  # bits of the magnitude below the format's last
    significand = _shifted_right(magnitude, shift)
    # A significand of one bit more carries into the exponent by itself, as IEEE 754 intends.
    bits = ((exponent - fmt.min_exponent) << stored_bits) + significand
    infinity = (3 - 2 * fmt.min_exponent) << stored_bits
    if bits >= infinity:
        raise NotExactError(f"{integer} * 2**-{fraction_bits} overflows {fmt.name}")
    return sign | bits if bits else 0  # what is rounded to zero is +0 as well


def _shifted_right(magnitude: int, shift: int) -> int:
    """magnitude / 2**shift to the nearest integer, ties to even."""
    if shift <= 0:
        return magnitude << -shift
    quotient, rest = divmod(magnitude, 1 << shift)
    half = 1 << (shift - 1)
    return quotient + (rest > half or (rest == half and quotient % 2 == 1))


def _names_an_expert(inputs: ExpertInputs) -> NDArray[np.bool_]:
    return (inputs.topk_ids >= 0) & (inputs.topk_ids < len(inputs.gate_up_proj))


def _require_room(left: FixedPoint, right: FixedPoint, *, terms: int) -> None:
    largest = [int(np.abs(side.integers).max(initial=0)) for side in (left, right)]
    if largest[0] * largest[1] * terms >= _LARGEST_SUM:
        raise NotExactError("a sum may exceed 64-bit integers")
