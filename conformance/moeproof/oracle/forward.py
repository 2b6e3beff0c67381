"""The experts' forward pass in float64, one set of matrix products per expert in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.inputs import ExpertInputs

Float64Array = NDArray[np.float64]
Transform = Callable[[Float64Array], Float64Array]


@dataclass(frozen=True)
class ActiveSlots:
    """The S slots (token, k) that name an expert, ordered by expert.

    Attributes:
        shape: (T, K) of the routing they come from.
        token, position: (S,) row and column of each slot in that routing.
        expert: (S,) its expert.
        weight: (S, 1) its routing weight.
        groups: for each expert in use its id and its range of slots.
    """

    shape: tuple[int, int]
    token: NDArray[np.int64]
    position: NDArray[np.int64]
    expert: NDArray[np.int64]
    weight: Float64Array
    groups: tuple[tuple[int, slice], ...]

    @classmethod
    def from_inputs(cls, inputs: ExpertInputs) -> ActiveSlots:
        """Slots whose id is in [0, E). Nothing else in the inputs is ever read."""
        ids = inputs.topk_ids.astype(np.int64)
        token, position = np.nonzero((ids >= 0) & (ids < len(inputs.gate_up_proj)))
        order = np.argsort(ids[token, position], kind="stable")
        token, position = token[order], position[order]
        expert = ids[token, position]
        used, counts = np.unique(expert, return_counts=True)
        stops = np.cumsum(counts)
        groups = tuple(
            (int(e), slice(int(stop - count), int(stop)))
            for e, count, stop in zip(used, counts, stops, strict=True)
        )
        weight = inputs.topk_weights[token, position].astype(np.float64)[:, None]
        return cls((ids.shape[0], ids.shape[1]), token, position, expert, weight, groups)

    def combine(self, values: Float64Array) -> Float64Array:
        """(T, N): the sum of each token's slots of ``values`` (S, N)."""
        by_position = np.zeros((*self.shape, values.shape[1]))
        by_position[self.token, self.position] = values
        return np.asarray(by_position.sum(axis=1))

    def any(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(T, N): whether any of a token's slots is ``marked`` (S, N)."""
        return np.asarray(self.combine(marked.astype(np.float64)) > 0)

    def weight_of_expert(self, weight: Float64Array) -> Float64Array:
        """(S, 1): the sum of |weight| over the token's slots with the same expert.

        Slots that repeat an expert repeat its errors, which then add up linearly.
        """
        _, pair = self.pairs
        totals = np.bincount(pair, weights=np.abs(weight[:, 0]))
        return np.asarray(totals[pair], dtype=np.float64)[:, None]

    def experts_per_token(self) -> NDArray[np.int64]:
        """(T,): the number of different experts that each token's slots name."""
        pairs, _ = self.pairs
        return np.asarray(np.bincount(pairs[:, 0], minlength=self.shape[0]), dtype=np.int64)

    @cached_property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The different pairs (token, expert), and for each slot (S,) its pair's index."""
        keys = np.stack([self.token, self.expert], axis=1)
        pairs, pair = np.unique(keys, axis=0, return_inverse=True)
        return pairs, pair.reshape(-1)


def grouped_products(
    slots: ActiveSlots,
    weights: NDArray[Any],
    operands: Mapping[str, tuple[Float64Array, Transform]],
) -> dict[str, Float64Array]:
    """Products of rows with their own expert's weights.

    Args:
        slots: says which of the S rows belong to which expert.
        weights: (E, N, K), any floating dtype.
        operands: by name, rows (S, K) and an elementwise function of the weights.

    Returns:
        By the same name the products (S, N): rows @ function(weights[expert]).T.
    """
    results = {name: np.empty((len(slots.token), weights.shape[1])) for name in operands}
    for expert, group in slots.groups:
        matrix = weights[expert].astype(np.float64)
        transformed: dict[Transform, Float64Array] = {}
        for name, (rows, transform) in operands.items():
            if transform not in transformed:
                transformed[transform] = transform(matrix)
            np.matmul(rows[group], transformed[transform].T, out=results[name][group])
    return results


def identity(matrix: Float64Array) -> Float64Array:
    """The weights themselves, as an operand's transform."""
    return matrix


def silu(gate: Float64Array) -> Float64Array:
    """g * sigmoid(g), elementwise."""
    return gate * sigmoid(gate)


def sigmoid(values: Float64Array) -> Float64Array:
    """1 / (1 + exp(-v)) without overflow."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


@dataclass(frozen=True)
class Contributions:
    """What every expert adds to every token that names it, P pairs of a token and an expert.

    Attributes:
        token, expert: (P,) the pairs.
        value: (P, H) the weighted outputs of the token's slots with that expert, summed.
        norm: (P, H) square root of the sum of the squared products that make up ``value``; what
            its magnitude would be at random signs.
        weighs: (P,) one of these slots has a routing weight other than zero.
    """

    token: NDArray[np.int64]
    expert: NDArray[np.int64]
    value: Float64Array
    norm: Float64Array
    weighs: NDArray[np.bool_]


def expert_contributions(inputs: ExpertInputs) -> Contributions:
    """The terms of :func:`expert_forward`'s sums, by token and expert."""
    slots = ActiveSlots.from_inputs(inputs)
    intermediate = _intermediate(inputs, slots)
    operands: dict[str, tuple[Float64Array, Transform]] = {
        "value": (intermediate, identity),
        "squares": (intermediate**2, np.square),
    }
    products = grouped_products(slots, inputs.down_proj, operands)
    pairs, pair = slots.pairs
    value, squares = np.zeros((2, len(pairs), inputs.down_proj.shape[1]))
    np.add.at(value, pair, slots.weight * products["value"])
    np.add.at(squares, pair, slots.weight**2 * products["squares"])
    weighs = np.bincount(pair, weights=slots.weight[:, 0] != 0, minlength=len(pairs)) > 0
    return Contributions(pairs[:, 0], pairs[:, 1], value, np.sqrt(squares), weighs)


def expert_forward(inputs: ExpertInputs) -> Float64Array:
    """(T, H): sum over a token's slots of weight * (SiLU(x Wg^T) * (x Wu^T)) Wd^T, in float64.

    The gate rows are the first half of ``gate_up_proj``'s second axis.
    """
    slots = ActiveSlots.from_inputs(inputs)
    operands = {"out": (_intermediate(inputs, slots), identity)}
    products = grouped_products(slots, inputs.down_proj, operands)
    return slots.combine(slots.weight * products["out"])


def _intermediate(inputs: ExpertInputs, slots: ActiveSlots) -> Float64Array:
    """(S, I): SiLU(gate) * up of every slot."""
    rows = inputs.hidden_states[slots.token].astype(np.float64)
    products = grouped_products(slots, inputs.gate_up_proj, {"gate_up": (rows, identity)})
    gate, up = np.split(products["gate_up"], 2, axis=1)
    return silu(gate) * up
