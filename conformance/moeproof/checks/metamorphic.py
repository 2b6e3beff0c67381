"""Does the output change as it must when the inputs are changed in a known way?"""

from __future__ import annotations

from moeproof.case import Case
from moeproof.case_id import AnyCase
from moeproof.checks.accuracy import judge_output
from moeproof.checks.bits import compare_bits
from moeproof.checks.check import Check, missing_for_experts
from moeproof.checks.relations import RELATIONS, Relation
from moeproof.trial import Trial
from moeproof.verdict import Finding, Outcome


def judge_metamorphic(trial: Trial) -> Finding:
    """Judge the relation that the case's seed picks among those that fit it.

    Both sides are compared bit for bit where the implementation claims what that needs; otherwise
    the changed call is judged by its own interval.
    """
    relation = relation_of(trial.case)
    transformed = relation.transform(trial.inputs, trial.case)
    output = trial.call(transformed.inputs)
    capabilities = trial.implementation.capabilities
    claimed = all(getattr(capabilities, need) for need in ("deterministic", *relation.needs))
    if claimed and relation.bitwise(trial.case):
        other = transformed.compared_with
        original = trial.output if other is None else trial.call(other)
        finding = compare_bits(
            output,
            expected=transformed.expected(original),
            what=f"what {relation.name} demands",
        )
    else:
        interval = trial.interval_of(transformed.inputs)
        finding = judge_output(output, inputs=transformed.inputs, interval=interval)
    if finding.outcome is Outcome.PASS:
        return finding
    return Finding(
        finding.outcome,
        f"{relation.name} ({relation.summary}): {finding.message}",
        finding.figures,
        finding.worst,
        finding.evidence,
    )


def relation_of(case: Case) -> Relation:
    """The relation that a case is judged by."""
    fitting = [relation for relation in RELATIONS if relation.fits(case)]
    return fitting[case.seed % len(fitting)]


def _applies(case: AnyCase) -> bool:
    return isinstance(case, Case) and case.problem.num_tokens > 0


METAMORPHIC = Check(
    name="metamorphic",
    question="does the output change as it must when the inputs change in a known way?",
    applies=_applies,
    missing=missing_for_experts,
    judge=judge_metamorphic,
)
