"""Matrix products with float32 accumulators, as processors and matrix units compute them.

Each takes rows (S, K) and the weights of each row's own expert (S, N, K), float64 arrays of 16-bit
or float32 numbers, and returns (S, N).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Product = Callable[[Array, Array], Array]


def to_float32(values: Array) -> Array:
    with np.errstate(all="ignore"):
        return values.astype(np.float32).astype(np.float64)


def flushed(values: Array, smallest: float = 2.0**-126) -> Array:
    return np.where(np.abs(values) < smallest, 0.0, values)


def sequential(rows: Array, weights: Array) -> Array:
    """Multiply, round, add, round."""
    total = np.zeros(weights.shape[:2])
    for k in range(rows.shape[1]):
        total = to_float32(total + to_float32(rows[:, None, k] * weights[:, :, k]))
    return total


def fused(rows: Array, weights: Array) -> Array:
    """A chain of fused multiply-adds."""
    total = np.zeros(weights.shape[:2])
    for k in range(rows.shape[1]):
        total = to_float32(total + rows[:, None, k] * weights[:, :, k])
    return total


def fused_with_flush(rows: Array, weights: Array) -> Array:
    """Multiply and add in float32 without subnormal results."""
    total = np.zeros(weights.shape[:2])
    for k in range(rows.shape[1]):
        product = flushed(to_float32(rows[:, None, k] * weights[:, :, k]))
        total = flushed(to_float32(total + product))
    return total


def backwards(rows: Array, weights: Array) -> Array:
    return fused(rows[:, ::-1], weights[:, :, ::-1])


def pairwise(rows: Array, weights: Array) -> Array:
    """A binary tree of additions."""
    terms = to_float32(rows[:, None, :] * weights)
    while terms.shape[2] > 1:
        if terms.shape[2] % 2:
            terms = np.concatenate([terms, np.zeros_like(terms[:, :, :1])], axis=2)
        terms = to_float32(terms[:, :, 0::2] + terms[:, :, 1::2])
    return terms[:, :, 0]


def lanes(count: int) -> Product:
    """SIMD lanes that each take every ``count``-th product, added up at the end."""

    def product(rows: Array, weights: Array) -> Array:
        total = np.zeros(weights.shape[:2])
        for lane in range(min(count, rows.shape[1])):
            total = to_float32(total + fused(rows[:, lane::count], weights[:, :, lane::count]))
        return total

    return product


def split_k(count: int, inner: Product) -> Product:
    """``count`` consecutive parts of K, added up afterwards in reversed order."""

    def product(rows: Array, weights: Array) -> Array:
        total = np.zeros(weights.shape[:2])
        for part in reversed(np.array_split(np.arange(rows.shape[1]), count)):
            total = to_float32(total + inner(rows[:, part], weights[:, :, part]))
        return total

    return product


def matrix_unit(block: int, fraction_bits: int) -> Product:
    """Fused dot products of ``block`` products and the accumulator, all truncated.

    The addends are aligned to the largest exponent and cut ``fraction_bits`` below it; the exact
    sum is then cut to float32 (Fasi et al., 2021: 23 bits on Volta, 24 on Ampere, 25 on Hopper).
    """

    def product(rows: Array, weights: Array) -> Array:
        total = np.zeros(weights.shape[:2])
        for start in range(0, rows.shape[1], block):
            part = slice(start, start + block)
            terms = rows[:, None, part] * weights[:, :, part]
            addends = np.concatenate([total[:, :, None], terms], axis=2)
            exponent = np.frexp(np.abs(addends).max(axis=2))[1] - 1
            total = truncated((cut(addends, exponent[:, :, None] - fraction_bits)).sum(axis=2))
        return total

    return product


def cut(values: Array, exponent: Array) -> Array:
    """Towards zero, to multiples of 2**exponent."""
    return np.ldexp(np.trunc(np.ldexp(values, -exponent)), exponent)


def truncated(values: Array, bits: int = 24) -> Array:
    """Towards zero, to ``bits`` significant bits; float32's subnormals have fewer."""
    exponent = np.maximum(np.frexp(values)[1], -125)
    return cut(values, exponent - bits)


def through_tf32(inner: Product) -> Product:
    """Operands cut to eleven significant bits first."""
    return lambda rows, weights: inner(truncated(rows, 11), truncated(weights, 11))


def in_16_bits(block: int, round_to_storage: Callable[[Array], Array]) -> Product:
    """WRONG: the accumulator is rounded to the storage format after every ``block`` products."""

    def product(rows: Array, weights: Array) -> Array:
        total = np.zeros(weights.shape[:2])
        for start in range(0, rows.shape[1], block):
            part = slice(start, start + block)
            total = round_to_storage(total + sequential(rows[:, part], weights[:, :, part]))
        return total

    return product


PRODUCTS: dict[str, Product] = {
    "sequential": sequential,
    "fused": fused,
    "flushing": fused_with_flush,
    "backwards": backwards,
    "pairwise": pairwise,
    "8 lanes": lanes(8),
    "split 3": split_k(3, fused),
}

MATRIX_UNITS: dict[str, Product] = {
    "4 cut at 23": matrix_unit(4, 23),
    "8 cut at 24": matrix_unit(8, 24),
    "16 cut at 25": matrix_unit(16, 25),
    "4 cut at 23, split 4": split_k(4, matrix_unit(4, 23)),
}
