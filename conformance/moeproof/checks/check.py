"""What all checks have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moeproof.case import Case, ValueFamily
from moeproof.case_id import AnyCase
from moeproof.devices import DEVICE_NAMES
from moeproof.implementation import Capabilities
from moeproof.router_case import RouterCase
from moeproof.routing_pattern import find_pattern
from moeproof.verdict import Finding

GPU_DEVICES = frozenset({"cuda", "rocm"})
ALL_DEVICES = frozenset(DEVICE_NAMES)
COMPILED_DEVICES = ALL_DEVICES - {"cpu"}
"""Where Triton kernels are machine code; on the CPU the interpreter runs them."""


@dataclass(frozen=True)
class Check:
    """One question put to an implementation, about one case.

    Attributes:
        name: as in reports and on the command line.
        question: what PASS answers with yes.
        applies: whether the question makes sense for a case.
        missing: the capability that a case needs for this check and that is not claimed, in
            words, or None.
        judge: the answer, from a :class:`moeproof.trial.Trial` (or ``RouterTrial``).
        devices: where it can run.
    """

    name: str
    question: str
    applies: Callable[[AnyCase], bool]
    missing: Callable[[AnyCase, Capabilities], str | None]
    judge: Callable[[Any], Finding]
    devices: frozenset[str] = ALL_DEVICES


def is_expert_case(case: AnyCase) -> bool:
    """Whether a case calls ``fused_experts``."""
    return isinstance(case, Case)


def missing_for_experts(case: AnyCase, capabilities: Capabilities) -> str | None:
    """The capability that running ``fused_experts`` on a case needs and that is not claimed."""
    assert isinstance(case, Case)
    pattern, _ = find_pattern(case.pattern)
    needs = {
        f"dtype {case.problem.dtype}": case.problem.dtype in capabilities.dtypes,
        f"layout {case.layout.value}": case.layout in capabilities.layouts,
        "masked_ids": capabilities.masked_ids or not pattern.masked,
        "duplicate_ids": capabilities.duplicate_ids or not pattern.duplicates,
        "empty_batch": capabilities.empty_batch or case.problem.num_tokens > 0,
        "subnormals": capabilities.subnormals or case.values is not ValueFamily.SUBNORMAL,
    }
    for need, claimed in needs.items():
        if not claimed:
            return f"{need} is not claimed"
    return capabilities.unsupported(case)


def missing_beside(
    *claims: str,
) -> Callable[[AnyCase, Capabilities], str | None]:
    """What :func:`missing_for_experts` says, once the named capabilities are claimed."""

    def missing(case: AnyCase, capabilities: Capabilities) -> str | None:
        for claim in claims:
            if not getattr(capabilities, claim):
                return f"{claim} is not claimed"
        return missing_for_experts(case, capabilities)

    return missing


def missing_for_router(case: AnyCase, capabilities: Capabilities) -> str | None:
    """The capability that running ``route`` on a case needs and that is not claimed."""
    assert isinstance(case, RouterCase)
    problem = case.problem
    rules = {problem.scoring}
    if not problem.renormalize:
        rules.add("raw")
    if problem.has_bias:
        rules.add("bias")
    if problem.num_groups > 1:
        rules.add("groups")
    if problem.scaling_factor != 1.0:
        rules.add("scale")
    lacking = sorted(rules - capabilities.router_rules)
    if lacking:
        return f"router rules {', '.join(lacking)} are not claimed"
    if problem.dtype not in capabilities.dtypes:
        return f"dtype {problem.dtype} is not claimed"
    return capabilities.unsupported(case)
