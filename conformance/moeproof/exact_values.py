"""Values on which every rounding of a right implementation is exact, so all must agree bit for bit.

SiLU(g) = g exactly in float32 for integers 32 <= g <= 255 (1 + exp(-g) rounds to 1), and
SiLU(g) = -0 for g <= -110 (exp(-g) overflows). Two bias columns of ones at random positions set
the gates to such levels; all other operands are small integers with so few non-zeros that every
product sum, in any order, is an integer multiple of a common quantum with at most eight
significant bits. Pairs of large terms that cancel stand at random positions among them: partial
sums need more bits than storage has, but never more than float32 has. Routing weights are powers
of two or zero. Nothing is rounded anywhere, whatever points an implementation rounds at; only
``exact_rounded`` has longer results, which all must round alike. In fp32 nothing but float32
itself rounds, so its results may have up to 24 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moeproof.case import Case, ValueFamily
from moeproof.problem import Problem
from moeproof.random_source import RandomSource
from moeproof.routing_pattern import Routing

Float64Array = NDArray[np.float64]

_LEVEL = 64.0  # a gate level at which SiLU is the identity
_GATE_CENTRE = 144.0  # +- _MOST_TERMS stays within [32, 255]
_DEAD = -256.0  # + _MOST_TERMS stays below -110
_MOST_TERMS = 95  # sums of so many +-1 have at most seven significant bits
_MOST_DOWN_TERMS = 255
_PAIRS = 2  # of large terms in a sum
_HEADROOM = 3  # a large term's spacing in storage is 2**(this + 1) quanta
_MOST_OPERAND_BITS = 13  # two more than tf32 has; 255 such terms still sum exactly in float32


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
    top-k slots; ``exact_rounded`` sums products of more bits than storage has in the down
    projection and has one slot a token, so that the output is the sum rounded once;
    ``exact_operands`` has activations and up weights of as many bits as storage holds (13 in fp32,
    which tf32 would cut) and reads single intermediate columns.

    Raises:
        ValueError: the hidden size is too small for the bias columns.
    """
    problem = case.problem
    if problem.hidden_size < smallest_hidden_size():
        raise ValueError(f"exact values need hidden_size >= {smallest_hidden_size()}")
    random = RandomSource(case.case_id, "exact values")
    places = _Places.draw(random, problem)
    hidden_states = random.signs((problem.num_tokens, problem.hidden_size))
    hidden_states[:, places.bias] = 1.0
    hidden_states[:, places.pairs] = 1.0
    gate, up = _gate_and_up(case, random, places)
    if case.values is ValueFamily.EXACT_OPERANDS:
        _put_operands(case, random, hidden_states, up, places)
    signs = up[:, :, places.sign]
    down = _down(case, random, places, signs)
    shape = routing.topk_ids.shape
    if case.values is ValueFamily.EXACT_DOWN:
        weights = 2.0 ** -random.integers(0, 2, shape).astype(np.float64)
    else:
        weights = _one_slot_each(random, shape)
    return Values(hidden_states, np.concatenate([gate, up], axis=1), down, weights)


@dataclass(frozen=True)
class _Places:
    """Which columns have which part.

    Attributes:
        bias, pairs, body: hidden columns: the two of ones, those of large terms, the others.
        sign: one of the others, +-1 in all families but one: tells one token from another.
        live: an intermediate column whose gate is open for every expert.
        channels: intermediate columns of large terms, their gates open too.
    """

    bias: NDArray[np.int64]
    pairs: NDArray[np.int64]
    body: NDArray[np.int64]
    sign: int
    live: int
    channels: NDArray[np.int64]

    @classmethod
    def draw(cls, random: RandomSource, problem: Problem) -> _Places:
        columns = random.permutations(1, problem.hidden_size)[0]
        bias, columns = columns[:2], columns[2:]
        pairs = _paired(columns)
        channels = random.permutations(1, problem.intermediate_size)[0]
        body = np.sort(columns[pairs.size :])
        return cls(bias, pairs, body, int(body[0]), int(channels[0]), _paired(channels))


def _gate_and_up(
    case: Case, random: RandomSource, places: _Places
) -> tuple[Float64Array, Float64Array]:
    """Both (E, I, H); up's sign column holds the signs of open gates' results."""
    problem = case.problem
    gate = np.zeros((problem.num_experts, problem.intermediate_size, problem.hidden_size))
    up = np.zeros_like(gate)
    first, second = places.bias
    gate[:, :, first] = _LEVEL
    dead = random.integers(0, 5, gate.shape[:2]) == 0
    dead[:, places.live] = False
    dead[:, places.channels] = False
    if case.values is ValueFamily.EXACT_GATE:
        gate[:, :, first] = _GATE_CENTRE
        _put_sums(case, random, gate, places)
    gate[:, :, second] = np.where(dead, _DEAD - gate[:, :, first], 0.0)
    if case.values is ValueFamily.EXACT_UP:
        _put_sums(case, random, up, places)
    elif case.values is not ValueFamily.EXACT_OPERANDS:
        up[:, :, places.sign] = random.signs(up.shape[:2])
    return gate, up


def _put_sums(case: Case, random: RandomSource, rows: Float64Array, places: _Places) -> None:
    """Sums of +-1, with large terms that cancel, into ``rows`` (E, I, H)."""
    body = (*rows.shape[:2], places.body.size)
    rows[:, :, places.body] = _sparse_signs(random, body, _MOST_TERMS)
    _put_cancelling(rows, places.pairs, random.signs(rows.shape[:2]) * _large_term(case))


def _put_operands(
    case: Case,
    random: RandomSource,
    hidden_states: Float64Array,
    up: Float64Array,
    places: _Places,
) -> None:
    """Odd integers of the most bits: in x for ``up``'s even rows, in ``up`` (E, I, H) for its odd.

    Their partners are +-1, so products have no more bits. In fp32 a row sums many; in 16-bit
    storage it has one term, for a sum would need more bits than storage has.
    """
    most = _MOST_TERMS if case.problem.format.significand_bits > _MOST_OPERAND_BITS else 1
    wide, narrow = np.array_split(places.body, 2)
    hidden_states[:, wide] *= _odd_numbers(case, random, hidden_states[:, wide].shape)
    even, odd = up[:, ::2], up[:, 1::2]
    even[:, :, wide] = _sparse_signs(random, (*even.shape[:2], wide.size), most)
    columns = narrow if narrow.size else wide
    signs = _sparse_signs(random, (*odd.shape[:2], columns.size), most)
    odd[:, :, columns] = signs
    if narrow.size:
        odd[:, :, columns] *= _odd_numbers(case, random, signs.shape)


def _odd_numbers(case: Case, random: RandomSource, shape: tuple[int, ...]) -> Float64Array:
    """Odd integers with the format's significand or the most bits, scaled to below 2."""
    bits = min(case.problem.format.significand_bits, _MOST_OPERAND_BITS)
    odd = random.integers(0, 2 ** (bits - 1), shape) * 2 + 1
    return np.ldexp(odd.astype(np.float64), 1 - bits)


def _down(case: Case, random: RandomSource, places: _Places, signs: Float64Array) -> Float64Array:
    """(E, H, I); open gates' intermediate values have the ``signs`` (E, I) or all the opposite."""
    problem = case.problem
    shape = (problem.num_experts, problem.hidden_size, problem.intermediate_size)
    if case.values is ValueFamily.EXACT_ROUNDED:
        return _long_sums(case, random, signs)
    if case.values is not ValueFamily.EXACT_DOWN:
        return _selector(random, shape, first=places.live)
    down = _sparse_signs(random, shape, _down_terms(case))
    down[:, :, places.channels] = 0.0
    _put_cancelling(down, places.channels, random.signs(shape[:2]) * _large_term(case))
    down[:, :, places.channels] *= signs[:, None, places.channels]
    # One output column reads one open gate alone, so that no token's outputs all cancel.
    column = int(random.integers(0, problem.hidden_size, (1,))[0])
    down[:, column] = 0.0
    down[:, column, places.live] = signs[:, places.live]
    return down


def make_silu_sweep(case: Case, routing: Routing) -> Values:
    """Gates over the whole range of SiLU, each seen alone: output = +-SiLU(gate).

    A token has a single 1 among zeros, up is 1, every output column reads one intermediate
    column, and one slot a token has weight 1, the others 0. All rounding points round the same
    number, so right outputs are +-SiLU(gate) rounded once. Gates have magnitudes from 2**-6 to
    2**7, past which a float32 SiLU is linear or zero.
    """
    problem = case.problem
    random = RandomSource(case.case_id, "silu sweep")
    tokens, experts = problem.num_tokens, problem.num_experts
    hidden, intermediate = problem.hidden_size, problem.intermediate_size
    hidden_states = np.zeros((tokens, hidden))
    hidden_states[np.arange(tokens), random.integers(0, hidden, (tokens,))] = 1.0
    shape = (experts, intermediate, hidden)
    exponent = random.integers(-6, 7, shape)
    gate = np.ldexp(random.signs(shape) * (1.0 + random.uniform(shape)), exponent)
    live = int(random.integers(0, intermediate, (1,))[0])
    gate[:, live] = np.abs(gate[:, live])  # SiLU of gates far below zero may vanish
    down = _selector(random, (experts, hidden, intermediate), first=live)
    weights = np.ceil(_one_slot_each(random, routing.topk_ids.shape))
    return Values(hidden_states, np.concatenate([gate, np.ones(shape)], axis=1), down, weights)


def _paired(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The columns that hold pairs of large terms: as many pairs as leave half of the columns."""
    return columns[: 2 * min(_PAIRS, len(columns) // 4)]


def _large_term(case: Case) -> float:
    """A term among whose partial sums storage cannot tell neighbouring integers apart."""
    return float(2.0 ** (min(case.problem.format.significand_bits, 11) + _HEADROOM))


def _put_cancelling(rows: Float64Array, pairs: NDArray[np.int64], term: Float64Array) -> None:
    """Write ``term`` (E, N) into the first half of the paired columns of ``rows`` (E, N, C), and
    its negative into the second half."""
    first, second = np.split(pairs, 2)
    rows[:, :, first] = term[:, :, None]
    rows[:, :, second] = -term[:, :, None]


def _long_sums(case: Case, random: RandomSource, signs: Float64Array) -> Float64Array:
    """(E, H, I): rows whose sums over intermediate values of +-64 need more bits than storage has.

    Odd numbers, all of one sign in a row once multiplied with the intermediate values' ``signs``
    (E, I); at most 255 of them, so that outputs stay below 2**15.
    """
    problem = case.problem
    shape = (problem.num_experts, problem.hidden_size, problem.intermediate_size)
    odd = _odd_numbers(case, random, shape)
    if problem.intermediate_size > _MOST_DOWN_TERMS:
        odd *= np.abs(_sparse_signs(random, shape, _MOST_DOWN_TERMS))
    return odd * signs[:, None, :] * random.signs((*shape[:2], 1))


def _down_terms(case: Case) -> int:
    """How many +-64 an output column may sum: K slots, weights 1 or 1/2, stay in eight bits."""
    top_k = case.problem.top_k
    return _MOST_DOWN_TERMS if top_k == 1 else max(1, _MOST_DOWN_TERMS // (2 * top_k))


def _sparse_signs(random: RandomSource, shape: tuple[int, ...], most: int) -> Float64Array:
    """Rows of zeros with at most ``most`` entries +-1 at random places along the last axis.

    Their number is odd, so no row sums to zero.
    """
    length = shape[-1]
    rows = int(np.prod(shape[:-1]))
    count = min(most, length) - (min(most, length) + 1) % 2
    places = random.permutations(rows, length)[:, :count]
    values = np.zeros((rows, length))
    np.put_along_axis(values, places, random.signs((rows, count)), axis=1)
    return values.reshape(shape)


def _selector(random: RandomSource, shape: tuple[int, int, int], *, first: int) -> Float64Array:
    """(E, H, I): output columns read one intermediate column each, in turn from ``first`` on, with
    random signs."""
    experts, hidden, intermediate = shape
    read = np.broadcast_to((np.arange(hidden) + first) % intermediate, (experts, hidden))
    down = np.zeros(shape)
    np.put_along_axis(down, read[:, :, None], random.signs((experts, hidden, 1)), axis=2)
    return down


def _one_slot_each(random: RandomSource, shape: tuple[int, ...]) -> Float64Array:
    """(T, K): one slot a token has weight 1, 1/2 or 1/4; the zeros of the others must hold."""
    tokens, top_k = shape
    weights = np.zeros(shape)
    slot = random.integers(0, top_k, (tokens,))
    weights[np.arange(tokens), slot] = 2.0 ** -random.integers(0, 3, (tokens,)).astype(np.float64)
    return weights
