"""The router cases that the profiles draw from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from moeproof.number_format import STORAGE_FORMATS
from moeproof.router_case import LogitFamily, RouterCase, RouterProblem

_RULES = (
    RouterProblem(33, 8, 2),
    RouterProblem(33, 8, 2, renormalize=False),
    RouterProblem(17, 60, 4, scoring="sigmoid", renormalize=False),
    RouterProblem(17, 64, 6, scoring="sigmoid", has_bias=True, scaling_factor=2.5),
    RouterProblem(
        9, 256, 8, scoring="sigmoid", has_bias=True, num_groups=8, topk_groups=4, scaling_factor=2.5
    ),
    RouterProblem(9, 160, 6, renormalize=False, num_groups=8, topk_groups=3, scaling_factor=16.0),
)
_MANY_OF_FEW = RouterProblem(
    9, 16, 8, scoring="sigmoid", has_bias=True, num_groups=4, topk_groups=2
)
_SCORINGS = ("softmax", "sigmoid")
_SIZES = ((1, 1), (2, 1), (5, 5), (7, 3), (16, 16), (129, 10), (257, 1), (512, 10), (1025, 8))


def small() -> Iterator[RouterCase]:
    """Every rule with every logit family, and the edges of E and K."""
    dtypes = tuple(STORAGE_FORMATS)
    turn = 0
    for problem in _RULES:
        for family in LogitFamily:
            turn += 1
            yield RouterCase(replace(problem, dtype=dtypes[turn % len(dtypes)]), family)
    for turn, (experts, top_k) in enumerate(_SIZES):
        problems = [RouterProblem(7, experts, top_k, scoring=name) for name in _SCORINGS]
        for problem in problems:
            yield RouterCase(problem, LogitFamily.NORMAL)
        yield RouterCase(problems[turn % len(problems)], LogitFamily.TIES)
    # Biases decide, and some of the chosen experts' are negative: below a masked group's zero.
    yield RouterCase(_MANY_OF_FEW, LogitFamily.VERY_NEGATIVE)
    yield RouterCase(RouterProblem(0, 8, 2))
    yield RouterCase(RouterProblem(1, 128, 8))


def large() -> Iterator[RouterCase]:
    """Every rule, logit family and dtype with several seeds."""
    for seed in range(1, 4):
        for problem in _RULES:
            for family in LogitFamily:
                for dtype in STORAGE_FORMATS:
                    yield RouterCase(replace(problem, dtype=dtype), family, seed)
