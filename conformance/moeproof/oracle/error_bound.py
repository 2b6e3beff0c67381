"""Bounds on the error of each step of a right implementation, and models of its variance.

Two kinds of bound on a matrix product: the worst case, a proof for any order, split or tree of
additions; and one for values with independent random signs, exceeded with probability below
1e-9 per case (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019).
The accumulators of matrix units follow Blanchard, Higham, Lopez, Mary and Pranesh, "Mixed
precision block fused multiply-add", 2020, and Fasi, Higham, Mikaitis and Pranesh, "Numerical
behavior of NVIDIA tensor cores", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moeproof.oracle.forward import sigmoid, silu

Float64Array = NDArray[np.float64]

FLOAT32_ROUNDOFF = 2.0**-24
FLOAT32_UNDERFLOW = 2.0**-126  # what one operation loses at most where subnormals are flushed
_FLOAT64_SPACING = 2.0**-52
_TF32_CUT = 2.0**-10  # relative error of an operand truncated to eleven significant bits
_TF32_SUBNORMAL_CUT = 2.0**-136  # absolute error of a truncated subnormal operand
_FAILURE_PROBABILITY = 1e-9
_SILU_MINIMUM_AT, _SILU_MINIMUM = -1.2784645427610738, -0.27846454276107374


@dataclass(frozen=True)
class Accumulator:
    """How float32 partial sums of a matrix product lose bits.

    Attributes:
        worst_case: unit roundoffs lost per addition at most. A fused dot product that truncates
            its addends and its result loses up to 2**-23 of the largest of them for each.
        bias: unit roundoffs by which truncation shifts each block of ``block`` products.
        block: products summed by one fused operation.
        spread: standard deviation of one rounding, in unit roundoffs, at most.
        typical_bias, typical_spread: the same for the second-moment model, upper limits over
            the matrix units and libraries known.
    """

    worst_case: float
    bias: float
    block: int
    spread: float
    typical_bias: float
    typical_spread: float


ACCUMULATORS = {
    "mma": Accumulator(2.0, 1.5, 8, 0.8, 0.2, 0.3),
    "fma": Accumulator(1.0, 0.0, 8, 0.8, 0.0, 0.3),
}


@dataclass(frozen=True)
class DotProducts:
    """Sums of ``length`` products a*b, each array (S, N).

    Attributes:
        value: sum of a*b. magnitude: sum of |a*b|. norm: square root of the sum of (a*b)**2.
        operand_sum: sum of |a| plus sum of |b|; read where operands may be cut to tf32.
        length: K, the number of products.
    """

    value: Float64Array
    magnitude: Float64Array
    norm: Float64Array
    operand_sum: Float64Array | float
    length: int


def tail_factor(outputs: int) -> float:
    """lambda = sqrt(2 ln(8 N / 1e-9)): no one of N outputs' sub-Gaussian errors exceeds it."""
    return float(np.sqrt(2 * np.log(8 * max(outputs, 1) / _FAILURE_PROBABILITY)))


def product_bound(
    dot: DotProducts, accumulator: Accumulator, *, tail: float | None, tf32: bool
) -> Float64Array:
    """Largest error of a matrix product kept in float32, for every element of ``dot``.

    With S1 = sum |ab|, S2 = sqrt(sum (ab)^2), u = 2^-24 and K products, the worst case is::

        gamma S1 + (2K+4) 2^-126 + K 2^-52 S1,    gamma = n u / (1 - n u),   n = c (K+3)

    c = 1 for IEEE float32 in any order (Higham, "Accuracy and Stability of Numerical
    Algorithms", section 4.2). c = 2 for fused dot products of g products that keep at least 24
    bits below the largest addend: aligning g addends and truncating the result loses at most
    g 2^-23 times the larger of the largest addend and the result, which is 2 g u S1. The second
    term is underflow where float32 subnormals are flushed, after products and after sums; the
    third is the error of the oracle's own float64 sums. With independent random signs also::

        u (2 b ceil(K/g) + lambda r sqrt(K) + 4) (|s| + 2 S2)

    Operands cut to tf32 add (2*2^-10 + 2^-20) S1 + 2^-136 (sum |a| + sum |b|).

    Args:
        dot: the products.
        accumulator: its class.
        tail: lambda, where signs are independent and random; None for the worst case.
        tf32: the operands may be cut to tf32.
    """
    n = accumulator.worst_case * (dot.length + 3) * FLOAT32_ROUNDOFF
    magnitude = dot.magnitude
    cut: Float64Array | float = 0.0
    if tf32:
        relative = 2 * _TF32_CUT + _TF32_CUT**2
        cut = relative * magnitude + _TF32_SUBNORMAL_CUT * dot.operand_sum
        magnitude = magnitude * (1 + relative)
    bound = n / (1 - n) * magnitude
    if tail is not None:
        blocks = np.ceil(dot.length / accumulator.block)
        roundoffs = 2 * accumulator.bias * blocks + 4
        roundoffs += tail * accumulator.spread * np.sqrt(dot.length)
        likely = roundoffs * FLOAT32_ROUNDOFF * (np.abs(dot.value) + 2 * dot.norm)
        bound = np.minimum(bound, likely)
    underflow = (2 * dot.length + 4) * FLOAT32_UNDERFLOW
    return np.asarray(bound + cut + underflow + dot.length * _FLOAT64_SPACING * dot.magnitude)


def product_variance(dot: DotProducts, accumulator: Accumulator, *, tf32: bool) -> Float64Array:
    """Model of a matrix product's error variance for random signs, an upper limit.

    (u (b' ceil(K/g) + r' sqrt(K) + 1))^2 (s^2 + S2^2), and for tf32 2^-20 (0.7 S2^2 + s^2).
    """
    blocks = np.ceil(dot.length / accumulator.block)
    roundoffs = accumulator.typical_bias * blocks + 1
    roundoffs += accumulator.typical_spread * np.sqrt(dot.length)
    value_squared, norm_squared = dot.value**2, dot.norm**2
    variance = (roundoffs * FLOAT32_ROUNDOFF) ** 2 * (value_squared + norm_squared)
    if tf32:
        variance = variance + _TF32_CUT**2 * (0.7 * norm_squared + value_squared)
    return np.asarray(variance)


def silu_slope(gate: Float64Array) -> Float64Array:
    """The derivative of SiLU, sigma (1 + g (1 - sigma)), between -0.1 and 1.1."""
    s = sigmoid(gate)
    return s * (1 + gate * (1 - s))


def silu_evaluation_error(gate: Float64Array, error: Float64Array | float = 0.0) -> Float64Array:
    """Relative error rho of a float32 SiLU evaluated anywhere in ``gate`` +- ``error``.

    rho = ((2 + 1.173 |g|) (1 - sigma(g)) + 5) 2^-23: an exponential by way of exp2 with an error
    of two units in the last place and a rounded argument (CUDA's ``__expf``, AMD's
    ``v_exp_f32``), a reciprocal or division of two units, one addition, one multiplication.
    """
    exponential = (2 + 1.173 * (np.abs(gate) + error)) * sigmoid(error - gate)
    return np.asarray((exponential + 5) * 2.0**-23)


def silu_bound(gate: Float64Array, error: Float64Array) -> Float64Array:
    """Error of SiLU computed in float32 from a gate that is off by up to ``error``.

    d + rho (|SiLU(g)| + d) + 2^-119, where d is the largest |SiLU(t) - SiLU(g)| for t in g +- e:
    SiLU falls up to its minimum and rises from there on, so that is at an end or at the minimum.
    The last term covers exp(-g) overflowing for g below -88.
    """
    value = silu(gate)
    lower, upper = gate - error, gate + error
    moved = np.maximum(np.abs(silu(lower) - value), np.abs(silu(upper) - value))
    holds_minimum = (lower < _SILU_MINIMUM_AT) & (upper > _SILU_MINIMUM_AT)
    moved = np.where(holds_minimum, np.maximum(moved, value - _SILU_MINIMUM), moved)
    evaluation = silu_evaluation_error(gate, error) * (np.abs(value) + moved)
    return np.asarray(moved + evaluation + 2.0**-119)
