"""From a router case to its logits and correction bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.number_format import number_format
from moeproof.random_source import RandomSource, round_to_storage
from moeproof.router_case import LogitFamily, RouterCase


@dataclass(frozen=True)
class RouterInputs:
    """What ``route`` is given.

    Attributes:
        router_logits: (T, E) in the case's storage dtype.
        correction_bias: (E,) float32, or None.
    """

    router_logits: NDArray[Any]
    correction_bias: NDArray[np.float32] | None


def make_router_inputs(case: RouterCase) -> RouterInputs:
    """The case's logits (T, E) and bias (E,).

    Logit families: ``normal`` (standard deviation 2), ``wide`` (60), ``very_negative`` (all below
    -100), ``saturated`` (around +20, where sigmoid is almost 1), ``ties`` (small
    integers, zeros of both signs),
    ``all_equal``, ``near_ties`` (a few units in the last place apart), ``high_experts`` (the best
    ones have the highest ids), ``negative_infinity`` (masked experts, at least K finite ones),
    ``not_a_number`` and ``positive_infinity`` (every third row spoiled).
    """
    problem = case.problem
    shape = (problem.num_tokens, problem.num_experts)
    random = RandomSource(case.case_id, "router_logits")
    logits = _logits(case, random, shape)
    bias = None
    if problem.has_bias:
        drawn = RandomSource(case.case_id, "correction_bias").symmetric((problem.num_experts,))
        bias = (drawn * 0.1).astype(np.float32)
    dtype = number_format(problem.dtype).numpy_dtype
    return RouterInputs(round_to_storage(logits, dtype), bias)


def _logits(case: RouterCase, random: RandomSource, shape: tuple[int, int]) -> NDArray[np.float64]:
    family, problem = case.logits, case.problem
    values = random.symmetric(shape) * 2.0
    if family is LogitFamily.WIDE:
        values *= 30.0
    elif family is LogitFamily.VERY_NEGATIVE:
        values -= 120.0
    elif family is LogitFamily.SATURATED:
        values += 20.0
    elif family is LogitFamily.TIES:
        values = random.integers(-2, 3, shape).astype(np.float64)
        values[:, 1::2] = np.where(values[:, 1::2] == 0, -0.0, values[:, 1::2])
    elif family is LogitFamily.ALL_EQUAL:
        values = np.broadcast_to(values[:, :1], shape).copy()
    elif family is LogitFamily.NEAR_TIES:
        spacing = number_format(problem.dtype).unit_roundoff * 4
        values = np.asarray(1.0 + random.integers(-3, 4, shape) * spacing, dtype=np.float64)
    elif family is LogitFamily.HIGH_EXPERTS:
        values += np.arange(shape[1]) * (8.0 / shape[1])
    elif family is LogitFamily.NEGATIVE_INFINITY:
        order = random.permutations(*shape)
        values[order >= max(problem.top_k, shape[1] * 2 // 3)] = -np.inf
    elif family is LogitFamily.NOT_A_NUMBER:
        values[::3, :: max(shape[1] // 3, 1)] = np.nan
        values[::6] = np.nan
    elif family is LogitFamily.POSITIVE_INFINITY:
        values[::3, shape[1] // 2] = np.inf
    return values
