"""Who goes where: a named rule that fills ``topk_ids`` and ``topk_weights`` for a problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moeproof.problem import Problem
from moeproof.random_source import RandomSource

IdArray = NDArray[np.int32]
WeightArray = NDArray[np.float32]


@dataclass(frozen=True)
class Routing:
    """One routing: ``topk_ids`` (T, K) int32 and ``topk_weights`` (T, K) float32."""

    topk_ids: IdArray
    topk_weights: WeightArray


@dataclass(frozen=True)
class RoutingPattern:
    """A rule that routes any problem it fits.

    Attributes:
        name: as written in case ids; may be followed there by ``:argument``.
        summary: one line for people.
        meets: classes of real bugs that this pattern reaches and random routing does not.
        route: (problem, random numbers, argument) -> Routing.
        misfit: why a problem cannot be routed this way, or None if it can.
        masked: some ids lie outside [0, E).
        duplicates: some token names one expert twice.
    """

    name: str
    summary: str
    meets: tuple[str, ...]
    route: Callable[[Problem, RandomSource, str], Routing]
    misfit: Callable[[Problem, str], str | None]
    masked: bool = False
    duplicates: bool = False


def routing_patterns() -> dict[str, RoutingPattern]:
    """Every pattern by name."""
    from moeproof import curated_routing, patterns

    return {**patterns.PATTERNS, curated_routing.CURATED.name: curated_routing.CURATED}


def find_pattern(reference: str) -> tuple[RoutingPattern, str]:
    """The pattern and the argument that ``name`` or ``name:argument`` stands for.

    ``curated:NAME`` stands for a pattern with that routing's own summary, masks and duplicates.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    from moeproof import curated_routing

    name, _, argument = reference.partition(":")
    known = routing_patterns()
    if name not in known:
        raise ValueError(
            f"routing pattern {name!r} is unknown; allowed: {', '.join(sorted(known))}"
        )
    if name == "curated":
        return curated_routing.curated_pattern(argument), argument
    return known[name], argument


def normalised_weights(problem: Problem, random: RandomSource) -> WeightArray:
    """(T, K) positive weights, distinct in a row, that sum to one before rounding to float32."""
    raw = random.uniform((problem.num_tokens, problem.top_k)) + 0.125
    return np.asarray((raw / raw.sum(axis=1, keepdims=True)).astype(np.float32))


def distinct_experts(problem: Problem, random: RandomSource, experts: NDArray[np.int64]) -> IdArray:
    """(T, K): each token's K distinct experts, drawn uniformly from ``experts``."""
    order = random.permutations(problem.num_tokens, len(experts))[:, : problem.top_k]
    return np.asarray(experts[order], dtype=np.int32)


def by_group_sizes(problem: Problem, random: RandomSource, sizes: NDArray[np.int64]) -> IdArray:
    """(T, K) ids in which expert e has exactly ``sizes[e]`` slots; surplus slots are masked (-1).

    Slots are filled column by column, so a token never gets an expert twice while no group is
    larger than T; the tokens are then shuffled.
    """
    slots = problem.num_tokens * problem.top_k
    if sizes.sum() > slots:
        raise ValueError(f"group sizes must sum to at most T*K = {slots}, got {sizes.sum()}")
    flat = np.full(slots, -1, dtype=np.int32)
    flat[: sizes.sum()] = np.repeat(np.arange(len(sizes)), sizes)
    ids = flat.reshape(problem.top_k, problem.num_tokens).T
    return np.ascontiguousarray(ids[random.permutations(1, problem.num_tokens)[0]])
