"""Are the chosen experts a legal top-k of the scores, and do the weights follow from them?"""

from __future__ import annotations

from moeproof.case_id import AnyCase
from moeproof.checks.check import Check
from moeproof.implementation import Capabilities
from moeproof.oracle import judge_routing
from moeproof.router_case import RouterCase
from moeproof.trial import RouterTrial
from moeproof.verdict import Finding, Outcome


def judge_router(trial: RouterTrial) -> Finding:
    """Ids distinct and in range, a legal selection under score error, weights that follow."""
    topk_ids, topk_weights = trial.call()
    problem = trial.case.problem
    violations = judge_routing(
        trial.inputs,
        topk_ids,
        topk_weights,
        top_k=problem.top_k,
        scoring=problem.scoring,
        renormalize=problem.renormalize,
        num_groups=problem.num_groups,
        topk_groups=problem.topk_groups,
        scaling_factor=problem.scaling_factor,
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


def _missing(case: AnyCase, capabilities: Capabilities) -> str | None:
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


ROUTING = Check(
    name="routing",
    question="are the chosen experts a legal top-k, and do the weights follow from them?",
    applies=_applies,
    missing=_missing,
    judge=judge_router,
)
