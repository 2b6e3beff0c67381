"""Does it keep to its memory: inputs unchanged, nothing written outside, nothing read unwritten?"""

from __future__ import annotations

from moeproof.case import Layout
from moeproof.case_id import AnyCase
from moeproof.checks.accuracy import judge_output
from moeproof.checks.check import Check, is_expert_case, missing_for_experts, missing_for_router
from moeproof.checks.routing import judge_routes
from moeproof.implementation import Capabilities
from moeproof.poison import PoisonedAllocations
from moeproof.trial import PlacedInputs, RouterTrial, Trial
from moeproof.verdict import Finding, Outcome


def judge_memory(trial: Trial | RouterTrial) -> Finding:
    """Call with NaN, or what the case says, in every unwritten allocation and guard zones around
    every tensor.

    The router's cases have no layout of their own: rows of logits lie apart here, with NaN
    between them, if that layout is claimed.
    """
    if isinstance(trial, Trial):
        placed = trial.place(trial.inputs)
        with PoisonedAllocations(trial.case.unwritten) as allocations:
            output = trial.call_placed(placed)
        violation = _violation(placed, allocations)
        finding = judge_output(output, inputs=trial.inputs, interval=trial.interval)
    else:
        claimed = Layout.ROW_PADDED in trial.implementation.capabilities.layouts
        placed = trial.place(Layout.ROW_PADDED if claimed else Layout.CONTIGUOUS)
        with PoisonedAllocations() as allocations:
            routes = trial.call_placed(placed)
        violation = _violation(placed, allocations)
        finding = judge_routes(trial, *routes)
    return finding if violation is None else Finding(Outcome.FAIL, violation)


def _violation(placed: PlacedInputs, allocations: PoisonedAllocations) -> str | None:
    """What was written that is not the call's own, in words."""
    for name, tensor in placed.tensors.items():
        changed = tensor.changed()
        if changed is not None:
            return f"the {changed} of {name} was written"
    return allocations.overrun()


def _applies(case: AnyCase) -> bool:
    return True


def _missing(case: AnyCase, capabilities: Capabilities) -> str | None:
    missing = missing_for_experts if is_expert_case(case) else missing_for_router
    return missing(case, capabilities)


MEMORY = Check(
    name="memory",
    question="are inputs unchanged, guard zones intact, and is nothing read before it is written?",
    applies=_applies,
    missing=_missing,
    judge=judge_memory,
)
