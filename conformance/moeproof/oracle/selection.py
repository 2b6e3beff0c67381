"""Which choices of experts are legal when scores, and so their order, are known within an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.oracle.error_bound import FLOAT32_ROUNDOFF

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Int64Array = NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """The least and the largest value (T, E) that each expert may be ranked by."""

    lower: Float64Array
    upper: Float64Array

    @classmethod
    def of(
        cls, score: Float64Array, error: Float64Array, bias: NDArray[np.float32] | None
    ) -> Ranking:
        """Ranking by score (T, E) plus the correction bias (E,), added in float32."""
        if bias is None:
            return cls(score - error, score + error)
        value = score + bias.astype(np.float64)
        error = error + FLOAT32_ROUNDOFF * (np.abs(value) + error)
        return cls(value - error, value + error)

    def of_groups(self, num_groups: int) -> Ranking:
        """Ranking (T, G) of groups of consecutive experts, by the sum of their two best."""
        lower, upper = (
            np.sort(_by_group(array, num_groups), axis=2)[:, :, -2:].sum(axis=2)
            for array in (self.lower, self.upper)
        )
        rounding = FLOAT32_ROUNDOFF * np.maximum(np.abs(lower), np.abs(upper))
        return Ranking(lower - rounding, upper + rounding)


@dataclass(frozen=True)
class GroupChoices:
    """What the legal choices of groups leave to the choice of experts.

    Attributes:
        exists: (T,) some legal choice of groups holds all chosen experts.
        best_left_out: (T,) the least, over those choices, of the largest value that the experts
            in the groups' reach and yet not chosen must have. -inf where none is left out.
    """

    exists: BoolArray
    best_left_out: Float64Array


def group_choices(
    ranking: Ranking, chosen: BoolArray, *, num_groups: int, topk_groups: int
) -> GroupChoices:
    """Tries every legal choice of groups that holds the ``chosen`` experts (T, E).

    A choice is legal iff its worst group may reach t >= the least value of every group outside.
    For each candidate t: groups that must exceed t are in, groups that cannot reach t are out,
    and the rest is filled with groups whose best expert left out is worst. t need only be one of
    the groups' largest values.
    """
    groups = ranking.of_groups(num_groups)
    left_out = _by_group(np.where(chosen, -np.inf, ranking.lower), num_groups).max(axis=2)
    needed = _by_group(chosen, num_groups).any(axis=2)
    exists = np.zeros(len(chosen), dtype=bool)
    best_left_out = np.full(len(chosen), np.inf)
    for threshold in groups.upper.T[:, :, None]:
        within_reach = groups.upper >= threshold
        mandatory = needed | (groups.lower > threshold)
        free = topk_groups - mandatory.sum(axis=1)
        possible = (mandatory <= within_reach).all(axis=1) & (free >= 0)
        possible &= within_reach.sum(axis=1) >= topk_groups
        by_mandatory = np.where(mandatory, left_out, -np.inf).max(axis=1)
        filling = np.sort(np.where(within_reach & ~mandatory, left_out, np.inf), axis=1)
        last = np.clip(free - 1, 0, num_groups - 1)[:, None]
        by_filling = np.take_along_axis(filling, last, axis=1)[:, 0]
        cost = np.maximum(by_mandatory, np.where(free > 0, by_filling, -np.inf))
        exists |= possible
        best_left_out = np.where(possible, np.minimum(best_left_out, cost), best_left_out)
    return GroupChoices(exists, best_left_out)


def passed_over(
    keys: Float64Array, ids: Int64Array, chosen: BoolArray, *, num_groups: int
) -> BoolArray:
    """(T, K): chosen experts that tie with a lower id which was left out.

    Args:
        keys: (T, E, n) what must be equal for a tie, such as logit and bias.
        ids: (T, K) the chosen experts.
        chosen: (T, E) the same as a mask.
        num_groups: a lower id counts only if its group is in use, for groups may tie as well.
    """
    experts = chosen.shape[1]
    in_use = _by_group(chosen, num_groups).any(axis=2)
    candidate = np.repeat(in_use, experts // num_groups, axis=1) & ~chosen
    key_of_chosen = np.take_along_axis(keys, ids[:, :, None], axis=1)
    equal = (key_of_chosen[:, :, None, :] == keys[:, None, :, :]).all(axis=3)
    lower = np.arange(experts) < ids[:, :, None]
    return np.asarray((equal & lower & candidate[:, None, :]).any(axis=2))


def _by_group(array: NDArray[Any], num_groups: int) -> NDArray[Any]:
    """(T, E) as (T, G, E / G)."""
    tokens, experts = array.shape
    return array.reshape(tokens, num_groups, experts // num_groups)
