"""The named routing patterns. Each reaches a class of real bugs; see ``RoutingPattern.meets``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moeproof.problem import Problem
from moeproof.random_source import RandomSource
from moeproof.routing_pattern import (
    IdArray,
    Routing,
    RoutingPattern,
    by_group_sizes,
    distinct_experts,
    normalised_weights,
)

Assign = Callable[[Problem, RandomSource], IdArray]
Misfit = Callable[[Problem, str], "str | None"]

PATTERNS: dict[str, RoutingPattern] = {}


def _top_k_fits(problem: Problem, argument: str) -> str | None:
    if argument:
        return f"takes no argument, got {argument!r}"
    if problem.top_k > problem.num_experts:
        return f"needs top_k <= num_experts, got {problem.top_k} > {problem.num_experts}"
    return None


def _experts_left(spare: int) -> Misfit:
    """Fits where ``spare`` experts can be left out and K distinct ones remain."""

    def misfit(problem: Problem, argument: str) -> str | None:
        if problem.num_experts < problem.top_k + spare:
            return f"needs num_experts >= top_k + {spare}"
        return _top_k_fits(problem, argument)

    return misfit


def _pattern(
    summary: str,
    *meets: str,
    misfit: Misfit = _top_k_fits,
    masked: bool = False,
    duplicates: bool = False,
) -> Callable[[Assign], Assign]:
    """Register an assignment of ids under its function's name, with ordinary weights."""

    def register(assign: Assign) -> Assign:
        def route(problem: Problem, random: RandomSource, argument: str) -> Routing:
            return Routing(assign(problem, random), normalised_weights(problem, random))

        name = assign.__name__
        PATTERNS[name] = RoutingPattern(name, summary, meets, route, misfit, masked, duplicates)
        return assign

    return register


def _all_experts(problem: Problem) -> np.ndarray:
    return np.arange(problem.num_experts)


def _cyclic(problem: Problem, first: np.ndarray) -> IdArray:
    """(T, K): token t gets the K experts that follow ``first[t]``, modulo E."""
    offsets = np.arange(problem.top_k)
    return np.asarray((first[:, None] + offsets) % problem.num_experts, dtype=np.int32)


@_pattern("every token draws K distinct experts")
def uniform(problem: Problem, random: RandomSource) -> IdArray:
    return distinct_experts(problem, random, _all_experts(problem))


@_pattern("experts in turn, group sizes as equal as can be", "schedule")
def round_robin(problem: Problem, random: RandomSource) -> IdArray:
    return _cyclic(problem, np.arange(problem.num_tokens) * problem.top_k)


@_pattern("all tokens to the same K experts", "schedule", "empty experts")
def same_experts(problem: Problem, random: RandomSource) -> IdArray:
    chosen = random.permutations(1, problem.num_experts)[0, : problem.top_k]
    return np.tile(chosen.astype(np.int32), (problem.num_tokens, 1))


@_pattern("all tokens to the first K experts", "empty experts")
def only_first(problem: Problem, random: RandomSource) -> IdArray:
    return _cyclic(problem, np.zeros(problem.num_tokens, dtype=np.int64))


@_pattern("all tokens to the last K experts", "empty experts", "index width")
def only_last(problem: Problem, random: RandomSource) -> IdArray:
    first = np.full(problem.num_tokens, problem.num_experts - problem.top_k)
    return _cyclic(problem, first)


@_pattern("one expert takes part for every token", "skew", "chunking")
def one_hot_expert(problem: Problem, random: RandomSource) -> IdArray:
    ids = uniform(problem, random)
    hot = int(random.integers(0, problem.num_experts, (1,))[0])
    taken = (ids == hot).any(axis=1)
    ids[~taken, 0] = hot
    return ids


@_pattern("every second token goes to one expert first", "skew")
def half_to_one(problem: Problem, random: RandomSource) -> IdArray:
    ids = uniform(problem, random)
    taken = (ids == 0).any(axis=1)
    ids[(np.arange(problem.num_tokens) % 2 == 0) & ~taken, -1] = 0
    return ids


@_pattern("popularity falls as 1/rank (Zipf), ranks shuffled", "skew")
def zipf(problem: Problem, random: RandomSource) -> IdArray:
    """A race: expert of rank r finishes at r times a uniform time; the first K win."""
    experts = problem.num_experts
    ranks = random.permutations(1, experts)[0] + 1
    finish = random.uniform((problem.num_tokens, experts)) * ranks
    return np.asarray(np.argsort(finish, axis=1, kind="stable")[:, : problem.top_k], dtype=np.int32)


@_pattern("expert 0 gets nothing", "empty experts", misfit=_experts_left(1))
def empty_first(problem: Problem, random: RandomSource) -> IdArray:
    return distinct_experts(problem, random, _all_experts(problem)[1:])


@_pattern("the last expert gets nothing", "empty experts", misfit=_experts_left(1))
def empty_last(problem: Problem, random: RandomSource) -> IdArray:
    return distinct_experts(problem, random, _all_experts(problem)[:-1])


@_pattern("the middle expert gets nothing", "empty experts", misfit=_experts_left(1))
def empty_middle(problem: Problem, random: RandomSource) -> IdArray:
    middle = problem.num_experts // 2
    return distinct_experts(problem, random, np.delete(_all_experts(problem), middle))


@_pattern("only even experts get tokens", "empty experts")
def every_second_empty(problem: Problem, random: RandomSource) -> IdArray:
    even = _all_experts(problem)[::2]
    if len(even) < problem.top_k:
        even = _all_experts(problem)
    return distinct_experts(problem, random, even)


@_pattern("each expert has at most one token, as long as there are enough", "schedule")
def one_token_per_expert(problem: Problem, random: RandomSource) -> IdArray:
    order = random.permutations(1, problem.num_experts)[0]
    return np.asarray(order[round_robin(problem, random)], dtype=np.int32)


@_pattern("tokens sorted by expert", "schedule")
def sorted_experts(problem: Problem, random: RandomSource) -> IdArray:
    tokens = np.arange(problem.num_tokens)
    return _cyclic(problem, tokens * problem.num_experts // max(problem.num_tokens, 1))


@_pattern("tokens sorted by expert, downwards", "schedule")
def reversed_experts(problem: Problem, random: RandomSource) -> IdArray:
    return np.ascontiguousarray(sorted_experts(problem, random)[::-1, ::-1])


@_pattern("neighbouring tokens share no expert", "schedule", misfit=_experts_left(1))
def alternating(problem: Problem, random: RandomSource) -> IdArray:
    return _cyclic(problem, (np.arange(problem.num_tokens) % 2) * problem.top_k)


@_pattern("two long runs: first and last experts", "schedule", "empty experts")
def two_runs(problem: Problem, random: RandomSource) -> IdArray:
    late = np.arange(problem.num_tokens) >= problem.num_tokens // 2
    return _cyclic(problem, late * (problem.num_experts - problem.top_k))


@_pattern("group sizes one off the usual tile heights", "tile overhang", "schedule")
def tile_edges(problem: Problem, random: RandomSource) -> IdArray:
    """Groups of 15, 16, 17, 1, 31, 32, 33, 63, 64, 65 slots in turn, each at most T."""
    slots = problem.num_tokens * problem.top_k
    heights = np.array([15, 16, 17, 1, 31, 32, 33, 63, 64, 65])
    sizes = np.minimum(np.resize(heights, problem.num_experts), problem.num_tokens)
    before = np.cumsum(sizes) - sizes
    sizes = np.clip(slots - before, 0, sizes)
    missing = slots - sizes.sum()
    for expert in range(problem.num_experts):  # spread what is left over groups with room
        room = min(missing, problem.num_tokens - sizes[expert])
        sizes[expert] += room
        missing -= room
    return by_group_sizes(problem, random, sizes)


@_pattern("only the upper quarter of the experts", "ids >= 256", "index width")
def high_ids(problem: Problem, random: RandomSource) -> IdArray:
    count = max(problem.num_experts // 4, problem.top_k)
    return distinct_experts(problem, random, _all_experts(problem)[-count:])


@_pattern("one token alone on expert 0, the others elsewhere", "schedule", misfit=_experts_left(1))
def lonely_token(problem: Problem, random: RandomSource) -> IdArray:
    ids = empty_first(problem, random)
    ids[-1:, 0] = 0
    return ids


@_pattern("the same expert in every slot of a token", "duplicate ids", duplicates=True)
def duplicates(problem: Problem, random: RandomSource) -> IdArray:
    ids = random.integers(0, problem.num_experts, (problem.num_tokens, 1))
    return np.tile(ids.astype(np.int32), (1, problem.top_k))


@_pattern("a third of the slots is -1", "-1 ids", masked=True)
def masked_slots(problem: Problem, random: RandomSource) -> IdArray:
    ids = uniform(problem, random)
    ids[random.integers(0, 3, ids.shape) == 0] = -1
    return ids


@_pattern("first, last and some other tokens are wholly -1", "-1 ids", masked=True)
def masked_tokens(problem: Problem, random: RandomSource) -> IdArray:
    ids = uniform(problem, random)
    ids[::3] = -1
    ids[-1:] = -1
    return ids


@_pattern("every slot is -1", "-1 ids", "empty experts", masked=True)
def masked_all(problem: Problem, random: RandomSource) -> IdArray:
    return np.full((problem.num_tokens, problem.top_k), -1, dtype=np.int32)


@_pattern("ids at and past E, up to the largest int32", "-1 ids", "index width", masked=True)
def masked_past_end(problem: Problem, random: RandomSource) -> IdArray:
    ids = uniform(problem, random)
    outside = np.array([problem.num_experts, problem.num_experts + 1, 2**31 - 1, -(2**31)])
    chosen = outside[random.integers(0, 4, ids.shape)].astype(np.int32)
    return np.asarray(np.where(random.integers(0, 3, ids.shape) == 0, chosen, ids), dtype=np.int32)


@_pattern("expert parallel: the upper half of the experts is elsewhere", "-1 ids", masked=True)
def local_half(problem: Problem, random: RandomSource) -> IdArray:
    ids = uniform(problem, random)
    ids[ids >= max(problem.num_experts // 2, 1)] = -1
    return ids


def _weighted(summary: str, *meets: str) -> Callable[[Callable[..., np.ndarray]], None]:
    """Register a change of the ordinary weights over uniform ids."""

    def register(change: Callable[[np.ndarray, RandomSource], np.ndarray]) -> None:
        def route(problem: Problem, random: RandomSource, argument: str) -> Routing:
            ids = uniform(problem, random)
            weights = change(normalised_weights(problem, random), random)
            return Routing(ids, weights.astype(np.float32))

        name = change.__name__
        PATTERNS[name] = RoutingPattern(name, summary, meets, route, _top_k_fits)

    return register


@_weighted("some routing weights are zero", "weights")
def zero_weights(weights: np.ndarray, random: RandomSource) -> np.ndarray:
    return np.where(random.integers(0, 3, weights.shape) == 0, 0.0, weights)


@_weighted("weights are not normalised: they sum to about 2.5", "weights")
def unnormalised_weights(weights: np.ndarray, random: RandomSource) -> np.ndarray:
    return weights * 2.5


@_weighted("one slot's weight is 2**12 times the others'", "weights", "normalisation")
def dominant_weight(weights: np.ndarray, random: RandomSource) -> np.ndarray:
    return np.where(np.arange(weights.shape[1]) == 0, weights, weights * 2.0**-12)


def _sizes(argument: str) -> np.ndarray:
    return np.array([int(size) for size in argument.split("+")], dtype=np.int64)


def _sizes_misfit(problem: Problem, argument: str, *, masked: bool) -> str | None:
    try:
        sizes = _sizes(argument)
    except ValueError:
        return f"needs sizes such as 5+0+3, got {argument!r}"
    if len(sizes) != problem.num_experts or (sizes < 0).any() or sizes.max() > problem.num_tokens:
        return f"needs {problem.num_experts} sizes in [0, T={problem.num_tokens}]"
    slots = problem.num_tokens * problem.top_k
    if masked and sizes.sum() >= slots:
        return f"sizes must sum to less than T*K = {slots}, got {sizes.sum()}"
    if not masked and sizes.sum() != slots:
        return f"sizes must sum to T*K = {slots}, got {sizes.sum()}"
    return None


def _group_sizes(name: str, summary: str, *meets: str, masked: bool = False) -> None:
    """Register a pattern whose argument is a size for each expert's group.

    A token's slots are in random order.
    """

    def misfit(problem: Problem, argument: str) -> str | None:
        return _sizes_misfit(problem, argument, masked=masked)

    def route(problem: Problem, random: RandomSource, argument: str) -> Routing:
        ids = by_group_sizes(problem, random, _sizes(argument))
        order = random.permutations(problem.num_tokens, problem.top_k)
        ids = np.take_along_axis(ids, order, axis=1)
        return Routing(ids, normalised_weights(problem, random))

    PATTERNS[name] = RoutingPattern(name, summary, meets, route, misfit, masked)


_group_sizes(
    "group_sizes",
    "expert e gets exactly the e-th of the given sizes: group_sizes:5+0+3",
    "schedule",
    "empty experts",
)
_group_sizes(
    "masked_group_sizes",
    "the same with sizes for fewer slots than there are; the others are -1",
    "schedule",
    "empty experts",
    "-1 ids",
    masked=True,
)

NEEDS_SIZES = frozenset({"group_sizes", "masked_group_sizes"})
"""The patterns that need an argument."""
