"""Are the chosen experts a legal top-k of the scores, and do the weights follow from them?"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from moeproof.case_id import AnyCase
from moeproof.checks.check import Check, missing_for_router
from moeproof.oracle import judge_routing
from moeproof.router_case import RouterCase
from moeproof.trial import RouterTrial
from moeproof.verdict import Finding, Outcome


def judge_router(trial: RouterTrial) -> Finding:
    """Ids distinct and in range, a legal selection under score error, weights that follow."""
    return judge_routes(trial, *trial.call())


def judge_routes(trial: RouterTrial, topk_ids: NDArray[Any], topk_weights: NDArray[Any]) -> Finding:
    """Judge ids and weights (T, K) that ``route`` returned.

    Figures: ``wrong_tokens``.
    """
    problem = trial.case.problem
    violations = judge_routing(
        trial.inputs,
        topk_ids,
        topk_weights,
        top_k=problem.top_k,
        **problem.rule,
        lowest_id_ties=trial.implementation.capabilities.lowest_id_ties,
    )
    figures = {"wrong_tokens": float(len({violation.row for violation in violations}))}
    if not violations:
        return Finding(Outcome.PASS, figures=figures)
    message = (
        f"{int(figures['wrong_tokens'])} of {problem.num_tokens} tokens are routed wrongly; first: "
        f"{violations[0]}"
    )
    return Finding(Outcome.FAIL, message, figures)


def _applies(case: AnyCase) -> bool:
    return isinstance(case, RouterCase)


ROUTING = Check(
    name="routing",
    question="are the chosen experts a legal top-k, and do the weights follow from them?",
    applies=_applies,
    missing=missing_for_router,
    judge=judge_router,
)
