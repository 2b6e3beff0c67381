"""Curated routings: small, hand-made, one fault each, read from ``fixtures/routing``."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from moeproof.fixture_files import fixtures_directory
from moeproof.problem import Problem
from moeproof.random_source import RandomSource
from moeproof.routing_pattern import Routing, RoutingPattern, normalised_weights


@dataclass(frozen=True)
class CuratedRouting:
    """One file of ``fixtures/routing``.

    Attributes:
        name: the file's name without its ending.
        summary: what is special about it.
        bug_class: the class of bug that it meets, one of ``BUG_CLASSES``.
        source: public issues that the fault is known from.
        num_experts: E.
        topk_ids: (T, K) ids, as rows.
        topk_weights: (T, K) weights, or None for ordinary ones.
    """

    name: str
    summary: str
    bug_class: str
    source: tuple[str, ...]
    num_experts: int
    topk_ids: tuple[tuple[int, ...], ...]
    topk_weights: tuple[tuple[float, ...], ...] | None

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.topk_ids)

    @property
    def top_k(self) -> int:
        """K."""
        return len(self.topk_ids[0])


@cache
def curated_routings() -> dict[str, CuratedRouting]:
    """Every curated routing by name."""
    routings = {}
    for path in sorted((fixtures_directory() / "routing").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        weights = content.get("topk_weights")
        routings[path.stem] = CuratedRouting(
            name=path.stem,
            summary=content["summary"],
            bug_class=content["bug_class"],
            source=tuple(content["source"]),
            num_experts=content["num_experts"],
            topk_ids=tuple(tuple(row) for row in content["topk_ids"]),
            topk_weights=tuple(tuple(row) for row in weights) if weights is not None else None,
        )
    return routings


def _misfit(problem: Problem, argument: str) -> str | None:
    known = curated_routings()
    if argument not in known:
        return f"needs one of {', '.join(known)}, got {argument!r}"
    curated = known[argument]
    wanted = (curated.num_tokens, curated.num_experts, curated.top_k)
    if wanted != (problem.num_tokens, problem.num_experts, problem.top_k):
        return f"{argument} is for T={wanted[0]}, E={wanted[1]}, K={wanted[2]}"
    return None


def _route(problem: Problem, random: RandomSource, argument: str) -> Routing:
    curated = curated_routings()[argument]
    weights = (
        normalised_weights(problem, random)
        if curated.topk_weights is None
        else np.array(curated.topk_weights, dtype=np.float32)
    )
    return Routing(np.array(curated.topk_ids, dtype=np.int32), weights)


def curated_pattern(name: str) -> RoutingPattern:
    """The pattern of one curated routing; of none in particular where the name is unknown."""
    if name not in curated_routings():
        return CURATED
    curated = curated_routings()[name]
    ids = np.array(curated.topk_ids)
    by_token = np.sort(ids, axis=1)
    inside = (by_token >= 0) & (by_token < curated.num_experts)
    repeated = (by_token[:, 1:] == by_token[:, :-1]) & inside[:, 1:]
    return replace(
        CURATED,
        summary=curated.summary,
        meets=(curated.bug_class,),
        masked=not inside.all(),
        duplicates=bool(repeated.any()),
    )


CURATED = RoutingPattern(
    "curated",
    "a hand-made routing of fixtures/routing: curated:NAME",
    ("see the file",),
    _route,
    _misfit,
)
