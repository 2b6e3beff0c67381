"""Router scores in float64 and the error of a right float32 implementation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moeproof.oracle.error_bound import FLOAT32_ROUNDOFF, FLOAT32_UNDERFLOW
from moeproof.oracle.forward import sigmoid

Float64Array = NDArray[np.float64]

_LARGEST_PRESCALED = 512.0  # larger logits overflow exp2 unless the maximum is subtracted first


def router_scores(logits: Float64Array, scoring: str) -> tuple[Float64Array, Float64Array]:
    """Scores (T, E) and the largest error of each, for finite or -Inf logits (T, E).

    Args:
        logits: each row must have a finite value.
        scoring: "softmax" over the experts, or "sigmoid" of each.

    Raises:
        ValueError: ``scoring`` is another.
    """
    if scoring == "softmax":
        return _softmax(logits)
    if scoring == "sigmoid":
        return _sigmoid(logits)
    raise ValueError(f"scoring must be softmax or sigmoid, got {scoring!r}")


def _softmax(logits: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Softmax, error (r_i + weighted mean of r + (E + 5) 2^-24) s + 2^-126.

    r = (2 + 1.7 x) 2^-23, x = max(|l - m|, |l|, |m|), m the largest logit: an exponential of two
    units, of an argument that is rounded when m is subtracted and when it is scaled for exp2, in
    either order. Scaled first, the roundings are relative to l and to m (|l| + |m| + 2 |l - m| <=
    3 x). Then the sum of E terms and a division.
    """
    largest = logits.max(axis=1, keepdims=True)
    difference = largest - logits
    exponential = np.exp(-difference)
    prescaled = np.minimum(np.maximum(np.abs(logits), np.abs(largest)), _LARGEST_PRESCALED)
    argument = np.where(exponential > 0, np.maximum(difference, prescaled), 0.0)
    relative = (2 + 1.7 * argument) * 2.0**-23
    total = exponential.sum(axis=1, keepdims=True)
    score = exponential / total
    of_total = (score * relative).sum(axis=1, keepdims=True)
    relative = relative + of_total + (logits.shape[1] + 5) * FLOAT32_ROUNDOFF
    return score, relative * score + np.where(np.isneginf(logits), 0.0, FLOAT32_UNDERFLOW)


def _sigmoid(logits: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Sigmoid, error ((2 + 1.173 |l|) (1 - s) 2^-23 + 6 2^-24) s + 2^-126, as for SiLU."""
    score = sigmoid(logits)
    argument = np.where(score > 0, np.abs(logits), 0.0)
    relative = (2 + 1.173 * argument) * sigmoid(-logits) * 2.0**-23 + 6 * FLOAT32_ROUNDOFF
    return score, relative * score + np.where(np.isneginf(logits), 0.0, FLOAT32_UNDERFLOW)


def normalised(lower: Float64Array, upper: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The range of s_i / sum_j s_j for non-negative s (T, K) between ``lower`` and ``upper``.

    The quotient grows with s_i and falls with every other s_j. Where all may be zero the quotient
    may be 0/0, and its range is [0, 1]: no weights are better than others there.
    """
    others_upper = upper.sum(axis=1, keepdims=True) - upper
    others_lower = lower.sum(axis=1, keepdims=True) - lower
    all_may_vanish = lower.sum(axis=1, keepdims=True) <= 0
    least = lower / np.where(lower + others_upper > 0, lower + others_upper, 1.0)
    most = upper / np.where(upper + others_lower > 0, upper + others_lower, 1.0)
    return np.where(all_may_vanish, 0.0, least), np.where(all_may_vanish, 1.0, most)
