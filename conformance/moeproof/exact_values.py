"""Values on which every rounding of a right implementation is exact, so all must agree bit for bit.

SiLU(g) = g exactly in float32 for integers 32 <= g <= 255 (1 + exp(-g) rounds to 1), and
SiLU(g) = -0 for g <= -110 (exp(-g) overflows). Two bias columns of ones at random positions set
the gates to such levels; all other operands are small integers with so few non-zeros that every
product sum, in any order, is an integer multiple of a common quantum with at most eight
significant bits. Routing weights are powers of two or zero. Nothing is rounded anywhere, whatever
points an implementation rounds at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moeproof.case import Case, ValueFamily
from moeproof.random_source import RandomSource
from moeproof.routing_pattern import Routing

Float64Array = NDArray[np.float64]

_LEVEL = 64.0  # a gate level at which SiLU is the identity
_GATE_CENTRE = 144.0  # +- _MOST_TERMS stays within [32, 255]
_DEAD = -256.0  # + _MOST_TERMS stays below -110
_MOST_TERMS = 95  # sums of so many +-1 have at most seven significant bits
_MOST_DOWN_TERMS = 255


@dataclass(frozen=True)
class Values:
    """The arrays of a case before they are rounded to storage, all float64."""

    hidden_states: Float64Array
    gate_up_proj: Float64Array
    down_proj: Float64Array
    topk_weights: Float64Array


def smallest_hidden_size() -> int:
    """Hidden sizes below this leave no column beside the two bias columns."""
    return 3


def make(case: Case, routing: Routing) -> Values:
    """Values of the case's exact family.

    ``exact_gate`` and ``exact_up`` put sums of +-1 through the gate or the up projection and read
    single intermediate columns; ``exact_down`` sums many +-64 in the down projection and over the
    top-k slots.

    Raises:
        ValueError: the hidden size is too small for the bias columns.
    """
    problem = case.problem
    if problem.hidden_size < smallest_hidden_size():
        raise ValueError(f"exact values need hidden_size >= {smallest_hidden_size()}")
    random = RandomSource(case.case_id, "exact values")
    hidden, intermediate = problem.hidden_size, problem.intermediate_size
    columns = random.permutations(1, hidden)[0]
    bias, body = columns[:2], np.sort(columns[2:])

    hidden_states = random.signs((problem.num_tokens, hidden))
    hidden_states[:, bias] = 1.0
    gate = np.zeros((problem.num_experts, intermediate, hidden))
    up = np.zeros_like(gate)
    gate[:, :, bias[0]] = _LEVEL
    if case.values is ValueFamily.EXACT_GATE:
        gate[:, :, bias[0]] = _GATE_CENTRE
        gate[:, :, body] = _sparse_signs(random, gate[:, :, body].shape, _MOST_TERMS)
    dead = random.integers(0, 5, gate.shape[:2]) == 0
    gate[:, :, bias[1]] = np.where(dead, _DEAD - gate[:, :, bias[0]], 0.0)
    if case.values is ValueFamily.EXACT_UP:
        up[:, :, body] = _sparse_signs(random, up[:, :, body].shape, _MOST_TERMS)
    else:
        up[:, :, bias[0]] = random.signs(up.shape[:2])
    if case.values is ValueFamily.EXACT_DOWN:
        down = _sparse_signs(random, (problem.num_experts, hidden, intermediate), _down_terms(case))
        weights = 2.0 ** -random.integers(0, 2, routing.topk_ids.shape).astype(np.float64)
    else:
        down = _selector(random, problem.num_experts, hidden, intermediate)
        weights = _one_slot_each(random, routing.topk_ids.shape)
    return Values(hidden_states, np.concatenate([gate, up], axis=1), down, weights)


def _down_terms(case: Case) -> int:
    """How many +-64 an output column may sum: K slots, weights 1 or 1/2, stay in eight bits."""
    top_k = case.problem.top_k
    return _MOST_DOWN_TERMS if top_k == 1 else max(1, _MOST_DOWN_TERMS // (2 * top_k))


def _sparse_signs(random: RandomSource, shape: tuple[int, ...], most: int) -> Float64Array:
    """Rows of zeros with at most ``most`` entries +-1 at random places along the last axis."""
    length = shape[-1]
    rows = int(np.prod(shape[:-1]))
    count = min(most, length)
    places = random.permutations(rows, length)[:, :count]
    values = np.zeros((rows, length))
    np.put_along_axis(values, places, random.signs((rows, count)), axis=1)
    return values.reshape(shape)


def _selector(random: RandomSource, experts: int, hidden: int, intermediate: int) -> Float64Array:
    """(E, H, I): column o reads one intermediate column, in turn, with a random sign."""
    start = random.integers(0, intermediate, (experts, 1))
    read = (np.arange(hidden) + start) % intermediate
    down = np.zeros((experts, hidden, intermediate))
    np.put_along_axis(down, read[:, :, None], random.signs((experts, hidden, 1)), axis=2)
    return down


def _one_slot_each(random: RandomSource, shape: tuple[int, ...]) -> Float64Array:
    """(T, K): one slot a token has weight 1, 1/2 or 1/4; the zeros of the others must hold."""
    tokens, top_k = shape
    weights = np.zeros(shape)
    slot = random.integers(0, top_k, (tokens,))
    weights[np.arange(tokens), slot] = 2.0 ** -random.integers(0, 3, (tokens,)).astype(np.float64)
    return weights
