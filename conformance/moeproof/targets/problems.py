"""Calls that together launch every kernel of an implementation in every configuration.

The sizes are those of real models, and one layer whose sizes are multiples of 16 but of no tile;
the batches are the powers of two up to 16,384 tokens, so that every row of a table of tiles is met.
Rows that start off a 16-byte boundary are left out: no model has them, their code is slow whatever
the tile, and the conformance profiles run them. Weights are address space only: no page of them is
ever touched.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from moeproof.case import Case
from moeproof.case_id import AnyCase
from moeproof.checks.check import missing_for_experts, missing_for_router
from moeproof.implementation import Implementation
from moeproof.model_shapes import model_shapes
from moeproof.problem import Problem
from moeproof.router_case import RouterCase, RouterProblem

_TOKENS = tuple(1 << exponent for exponent in range(15))
_ROUTER_TOKENS = (1, 4096)
_UNEVEN_SIZES = Problem(33, 1008, 496, 8, 2, "bf16")
_TORCH_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# Absent from Python's mmap module on some systems; Linux's value on all architectures that
# Triton runs on.
_MAP_NORESERVE = 0x4000


@dataclass(frozen=True)
class Call:
    """One call of an implementation.

    Attributes:
        name: of the problem.
        dtype: of the activations.
        launch: makes the call.
    """

    name: str
    dtype: str
    launch: Callable[[], object]


def representative_calls(implementation: Implementation, dtypes: Collection[str]) -> Iterator[Call]:
    """Calls of the experts in each dtype, small batches first, then of the router and the layer.

    What the implementation does not claim is left out.
    """
    for case in _cases(dtypes):
        if isinstance(case, RouterCase):
            call = partial(_call_router, implementation, case.problem)
            missing = (
                "route is not offered"
                if implementation.route is None
                else missing_for_router(case, implementation.capabilities)
            )
        else:
            call = partial(_call_experts, implementation, case.problem)
            missing = missing_for_experts(case, implementation.capabilities)
        if missing is None:
            yield Call(case.problem.name, case.problem.dtype, call)
            if case.problem.num_tokens in _ROUTER_TOKENS and isinstance(case, Case):
                yield from _layer_calls(implementation, case.problem)


def _layer_calls(implementation: Implementation, problem: Problem) -> Iterator[Call]:
    """The router's weights in the activations' dtype, and in float32 as many models keep them."""
    if implementation.fused_moe is not None:
        for router_dtype in sorted({problem.dtype, "fp32"}):
            call = partial(_call_layer, implementation.fused_moe, problem, router_dtype)
            yield Call(problem.name, problem.dtype, call)


def _cases(dtypes: Collection[str]) -> Iterator[AnyCase]:
    shapes = model_shapes().values()
    for dtype in dtypes:
        for tokens in _TOKENS:
            for problem in (_UNEVEN_SIZES, *(shape.problem(1) for shape in shapes)):
                yield Case(replace(problem, num_tokens=tokens, dtype=dtype), "uniform")
    for shape in shapes:
        for tokens in _ROUTER_TOKENS:
            yield shape.router_case(tokens)


def _call_experts(implementation: Implementation, problem: Problem) -> object:
    T, H, I = problem.num_tokens, problem.hidden_size, problem.intermediate_size  # noqa: E741
    E, K = problem.num_experts, problem.top_k
    dtype = _TORCH_DTYPES[problem.dtype]
    return implementation.fused_experts(
        _untouched((T, H), dtype),
        _untouched((E, 2 * I, H), dtype),
        _untouched((E, H, I), dtype),
        (torch.arange(T * K, dtype=torch.int32) % E).reshape(T, K),
        torch.full((T, K), 1.0 / K),
    )


def _call_layer(fused_moe: Callable[..., object], problem: Problem, router_dtype: str) -> object:
    T, H, I = problem.num_tokens, problem.hidden_size, problem.intermediate_size  # noqa: E741
    E, dtype = problem.num_experts, _TORCH_DTYPES[problem.dtype]
    return fused_moe(
        _untouched((T, H), dtype),
        _untouched((E, H), _TORCH_DTYPES[router_dtype]),
        _untouched((E, 2 * I, H), dtype),
        _untouched((E, H, I), dtype),
        problem.top_k,
    )


def _call_router(implementation: Implementation, problem: RouterProblem) -> object:
    assert implementation.route is not None
    return implementation.route(
        torch.zeros(problem.num_tokens, problem.num_experts),
        problem.top_k,
        correction_bias=torch.zeros(problem.num_experts) if problem.has_bias else None,
        **problem.rule,
    )


def _untouched(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of zeros whose memory is not there until it is touched."""
    numel = torch.Size(shape).numel()
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    memory = mmap.mmap(-1, max(1, numel * dtype.itemsize), flags=flags)
    return torch.frombuffer(memory, dtype=dtype, count=numel).reshape(shape)
