"""Hypothesis strategies for cases: what the fuzzer draws from.

Routing comes first, as the sizes of the experts' groups with zero among them; the number of tokens
follows from it, and the case's seed then assigns the tokens. Problem widths, storage format, value
family, layout and the contents of unwritten memory come after. Everything that is drawn is in the
case id, and everything shrinks towards few experts, few tokens, narrow rows and plain values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from moeproof.case import Case, Layout, UnwrittenMemory, ValueFamily
from moeproof.case_id import AnyCase
from moeproof.curated_routing import curated_routings
from moeproof.exact_values import smallest_hidden_size
from moeproof.number_format import STORAGE_FORMATS
from moeproof.patterns import NEEDS_SIZES, PATTERNS
from moeproof.problem import Problem
from moeproof.router_case import LogitFamily, RouterCase, RouterProblem


@dataclass(frozen=True)
class SizeLimits:
    """The largest problems that are drawn.

    Attributes:
        num_tokens, num_experts, top_k: largest T, E and K.
        width: largest H and I.
        weights: largest E*H*I, which keeps problems of many experts narrow.
    """

    num_tokens: int
    num_experts: int
    top_k: int
    width: int
    weights: int


# Around the usual heights of tiles and the powers of two that ids and counters are stored in.
_EDGES = tuple(
    edge + offset for edge in (8, 16, 32, 64, 128, 256, 512, 1024) for offset in (-1, 0, 1)
)
_FEW = (0, 1, 2, 3)
# Below this many tokens a width of 1 or 2 may leave outputs too small to tell from rounding.
_TOKENS_FOR_ANY_WIDTH = 8
_NARROW = 4
_SEEDS = st.integers(0, 2**31 - 1)
# What is listed several times is drawn more often; what comes first is what shrinking prefers.
_VALUES = (ValueFamily.RANDOM,) * 6 + tuple(ValueFamily)
_LAYOUTS = (Layout.CONTIGUOUS,) * 6 + tuple(Layout)


def cases(limits: SizeLimits) -> SearchStrategy[AnyCase]:
    """Cases of the experts, and one in eight of the router."""
    return st.integers(0, 7).flatmap(
        lambda turn: router_cases(limits) if turn == 7 else expert_cases(limits)
    )


@st.composite
def expert_cases(draw: DrawFn, limits: SizeLimits) -> Case:
    """Cases of the experts: routing first, then everything else."""
    routed, pattern = draw(routings(limits))
    values = draw(st.sampled_from(_VALUES))
    widest = max(_NARROW, min(limits.width, isqrt(limits.weights // routed.num_experts)))
    narrowest = 1 if routed.num_tokens >= _TOKENS_FOR_ANY_WIDTH else _NARROW
    if values.is_exact:
        narrowest = max(narrowest, smallest_hidden_size())
    problem = replace(
        routed,
        hidden_size=draw(sizes(narrowest, widest)),
        intermediate_size=draw(sizes(narrowest, widest)),
        dtype=draw(st.sampled_from(tuple(STORAGE_FORMATS))),
    )
    return Case(
        problem,
        pattern,
        values,
        draw(st.sampled_from(_LAYOUTS)),
        draw(_SEEDS),
        draw(st.sampled_from(UnwrittenMemory)),
    )


@st.composite
def routings(draw: DrawFn, limits: SizeLimits) -> tuple[Problem, str]:
    """Sizes and a routing pattern that fits them; widths and storage are still to be drawn.

    A named routing is drawn always, and perhaps put aside: what shrinks can then become one by
    leaving choices out.
    """
    named = draw(named_routings(limits))
    source = draw(st.sampled_from(("named", "group sizes", "group sizes", "curated")))
    if source == "group sizes":
        return draw(group_size_routings(limits))
    return named if source == "named" else draw(curated_routing_cases())


@st.composite
def group_size_routings(draw: DrawFn, limits: SizeLimits) -> tuple[Problem, str]:
    """The sizes of the experts' groups, and the fewest tokens that fill them.

    Slots that are left over are masked, or filled: first with experts that have tokens, so that
    empty experts stay empty where they can.
    """
    top_k = draw(_up_to((1, 2, 3, 4, 5, 6, 7, 8, 10, 16), limits.top_k))
    groups = draw(
        st.lists(
            draw(st.sampled_from((st.sampled_from(_FEW), sizes(0, limits.num_tokens)))),
            min_size=top_k,
            max_size=min(limits.num_experts, 4 * top_k + 16),
        )
    )
    room = limits.num_tokens * top_k
    for expert, size in enumerate(groups):
        groups[expert] = min(size, room)
        room -= groups[expert]
    tokens = max(*groups, -(-sum(groups) // top_k), 0)
    surplus = tokens * top_k - sum(groups)
    masked = surplus > 0 and draw(st.booleans())
    if not masked:
        for expert in sorted(range(len(groups)), key=lambda expert: groups[expert] == 0):
            added = min(surplus, tokens - groups[expert])
            groups[expert] += added
            surplus -= added
    name = "masked_group_sizes" if masked else "group_sizes"
    problem = Problem(tokens, 1, 1, len(groups), top_k, "bf16")
    return problem, f"{name}:{'+'.join(map(str, groups))}"


@st.composite
def named_routings(draw: DrawFn, limits: SizeLimits) -> tuple[Problem, str]:
    """Any number of tokens and experts, and a named pattern that fits."""
    tokens = draw(sizes(0, limits.num_tokens))
    experts = draw(sizes(1, limits.num_experts))
    top_k = draw(st.integers(1, min(experts, limits.top_k)))
    problem = Problem(tokens, 1, 1, experts, top_k, "bf16")
    fitting = [
        name
        for name, pattern in PATTERNS.items()
        if name not in NEEDS_SIZES and pattern.misfit(problem, "") is None
    ]
    return problem, draw(st.sampled_from(fitting))


@st.composite
def curated_routing_cases(draw: DrawFn) -> tuple[Problem, str]:
    """One of the hand-made routings, of which the one with the fewest slots is the simplest."""
    by_slots = sorted(
        curated_routings().values(), key=lambda routing: routing.num_tokens * routing.top_k
    )
    curated = draw(st.sampled_from(by_slots))
    problem = Problem(curated.num_tokens, 1, 1, curated.num_experts, curated.top_k, "bf16")
    return problem, f"curated:{curated.name}"


@st.composite
def router_cases(draw: DrawFn, limits: SizeLimits) -> RouterCase:
    """Cases of the router: groups of at least two experts, then what may be chosen from them."""
    num_groups = draw(st.sampled_from((1, 1, 2, 4, 8)))
    if num_groups == 1:
        experts, topk_groups = draw(sizes(1, max(limits.num_experts, 2))), 1
    else:
        experts = num_groups * draw(sizes(2, max(limits.num_experts // num_groups, 2)))
        topk_groups = draw(st.integers(1, num_groups))
    eligible = experts // num_groups * topk_groups
    problem = RouterProblem(
        num_tokens=draw(sizes(0, limits.num_tokens)),
        num_experts=experts,
        top_k=draw(st.integers(1, min(eligible, limits.top_k))),
        scoring=draw(st.sampled_from(("softmax", "sigmoid"))),
        renormalize=draw(st.booleans()),
        has_bias=draw(st.booleans()),
        num_groups=num_groups,
        topk_groups=topk_groups,
        scaling_factor=draw(st.sampled_from((1.0, 2.5, 16.0))),
        dtype=draw(st.sampled_from(tuple(STORAGE_FORMATS))),
    )
    return RouterCase(problem, draw(st.sampled_from(LogitFamily)), draw(_SEEDS))


def sizes(smallest: int, largest: int) -> SearchStrategy[int]:
    """A few, or any number up to ``largest``, or next to a power of two."""
    edges = [edge for edge in _EDGES if smallest <= edge <= largest]
    few = st.integers(smallest, min(largest, max(smallest, 40)))
    return st.one_of(few, st.sampled_from(edges)) if edges else few


def _up_to(choices: tuple[int, ...], largest: int) -> SearchStrategy[int]:
    return st.sampled_from([choice for choice in choices if choice <= largest])
