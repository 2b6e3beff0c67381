"""Reports of implementations judged in this process, without a worker or a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from moeproof.case import Case, ValueFamily
from moeproof.case_id import AnyCase, parse_case_id
from moeproof.devices import Device
from moeproof.implementation import Implementation
from moeproof.judge import checks_for, judge, make_trial
from moeproof.planned_case import PlannedCase
from moeproof.problem import Problem
from moeproof.report import Footer, Header, Report, RunMetadata
from moeproof.report.report import plan_digest, planned_pairs

CHECKS = ("accuracy", "exact", "routing")
_PATTERNS = ("uniform", "zipf", "empty_first", "same_experts")
_ROUTER_CASE = "route-T5-E8-K2-softmax-renormalized-fp32/ties/0"


@cache
def cases(seed: int = 0, dtypes: tuple[str, ...] = ("bf16", "fp16", "fp32")) -> tuple[AnyCase, ...]:
    """A few cases of every kind that a comparison treats differently."""
    found: list[AnyCase] = [parse_case_id(_ROUTER_CASE)]
    for dtype in dtypes:
        small = Problem(18, 72, 40, 7, 3, dtype)
        for problem in (small, Problem(5, 192, 160, 3, 2, dtype)):
            found += [Case(problem, pattern, seed=seed) for pattern in _PATTERNS]
            found.append(Case(problem, "uniform", ValueFamily.PER_EXPERT, seed=seed))
            found.append(Case(problem, "uniform", ValueFamily.EXACT_UP, seed=seed))
        found.append(Case(small, "zipf", ValueFamily.SUBNORMAL, seed=seed))
        found.append(Case(small, "zipf", ValueFamily.CANCELLING, seed=seed))
    return tuple(found)


def judged_report(
    implementation: Implementation,
    metadata: RunMetadata,
    judged: Sequence[AnyCase] | None = None,
) -> Report:
    """The report of an implementation on cases, by the checks that tests of comparisons need."""
    device = Device("cpu")
    planned = [
        PlannedCase(case, tuple(name for name in checks_for(case, "cpu") if name in CHECKS))
        for case in judged or cases()
    ]
    verdicts = []
    for item in planned:
        trial = make_trial(item.case, implementation, device)
        verdicts += [judge(trial, check) for check in item.checks]
    pairs = planned_pairs(planned)
    header = Header(
        metadata=replace(metadata, implementation=implementation.name),
        planned_cases=len(planned),
        planned_verdicts=len(pairs),
        plan_digest=plan_digest(pairs),
        questions={check: f"is {check} right?" for _, check in sorted(pairs)},
        started_at="2025-01-01T00:00:00+00:00",
    )
    return Report(header, tuple(verdicts), Footer.of(verdicts, seconds=1.0))
