"""Which checks catch which faults, in which case first."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from moeproof import rounding_conclusion
from moeproof.case import Case
from moeproof.case_id import AnyCase
from moeproof.devices import Device
from moeproof.faults.fault import Fault
from moeproof.implementation import Implementation
from moeproof.judge import judge, make_trial
from moeproof.planned_case import PlannedCase
from moeproof.report.fault_matrix import Catch, FaultResult
from moeproof.trial import RouterTrial, Trial
from moeproof.verdict import Outcome, Verdict

Ask = Callable[[AnyCase, str], Verdict]
"""(case, check) -> verdict, of the fault under way."""


def same_trial(known: Trial, implementation: Implementation) -> Trial:
    """A trial of another implementation on the same inputs, whose oracle has answered already.

    Where the two declare other roundings, or one alone flushes subnormals, their intervals differ.
    """
    trial = Trial(known.case, implementation, known.device)
    trial.inputs = known.inputs
    if trial.profile == known.profile:
        trial.interval = known.interval
        if trial.candidates == known.candidates:
            trial.inference = known.inference
    return trial


class Oracle:
    """What is true of a case whatever is judged on it, computed once for all faults.

    Attributes:
        seconds: what the computation took, by case; part of the time of everybody's first verdict.
    """

    def __init__(self) -> None:
        self._known: dict[AnyCase, Trial] = {}
        self.seconds: dict[AnyCase, float] = defaultdict(float)

    def trial(self, case: AnyCase, fault: Fault, device: Device) -> Trial | RouterTrial:
        """The fault's trial on a case."""
        if isinstance(case, Case) and case in self._known:
            return same_trial(self._known[case], fault.implementation)
        trial = make_trial(case, fault.implementation, device)
        if isinstance(trial, Trial):
            started = time.perf_counter()
            trial.interval  # noqa: B018  computed on first access
            self.seconds[case] = time.perf_counter() - started
            self._known[case] = trial
        return trial


def asked_here(fault: Fault, device: Device, oracle: Oracle) -> Ask:
    """Judge a fault in this process; for faults that are made from right steps in torch."""
    last: list[tuple[AnyCase, Trial | RouterTrial]] = []

    def ask(case: AnyCase, check: str) -> Verdict:
        if last and last[0][0] == case:
            return judge(last[0][1], check)
        last[:] = [(case, oracle.trial(case, fault, device))]
        verdict = judge(last[0][1], check)
        return replace(verdict, seconds=verdict.seconds + oracle.seconds[case])

    return ask


def find_catches(
    fault: Fault,
    planned: Sequence[PlannedCase],
    ask: Ask,
    *,
    stop_at_first: bool = False,
) -> FaultResult:
    """Judge a fault by a plan; a check that has caught it is not asked again.

    FAIL and ERROR are catches. The right steps (``CONTROL``) must have neither on the same plan.

    Args:
        fault: what is judged; cases that its wrong function takes no part in are left out.
        planned: the cases and their checks.
        ask: gives the verdicts.
        stop_at_first: stop after the first case in which any check catches it.
    """
    catches: dict[str, Catch] = {}
    rounding: list[Verdict] = []
    seconds = 0.0
    cases = 0
    for case, checks in cases_of(fault, planned):
        cases += 1
        for check in checks:
            if check in catches:
                continue
            verdict = ask(case, check)
            seconds += verdict.seconds
            found = [verdict]
            if check == rounding_conclusion.CHECK:
                rounding.append(verdict)
                found += [each.as_verdict() for each in rounding_conclusion.conclude(rounding)]
            for wrong in filter(is_catch, found):
                catches.setdefault(check, Catch(check, case.case_id, wrong.message, cases, seconds))
        if catches and stop_at_first:
            break
    return result_of(fault, tuple(catches.values()), cases, seconds)


def is_catch(verdict: Verdict) -> bool:
    """Whether a verdict says that the implementation is wrong."""
    return verdict.outcome in (Outcome.FAIL, Outcome.ERROR)


def result_of(
    fault: Fault, catches: tuple[Catch, ...], cases: int, seconds: float, *, not_judged: str = ""
) -> FaultResult:
    """What is known of a fault, without what is needed to judge it."""
    return FaultResult(
        name=fault.name,
        kind=fault.kind,
        bug_class=fault.bug_class,
        summary=fault.summary,
        stands_for=fault.stands_for,
        catches=catches,
        cases=cases,
        seconds=seconds,
        not_judged=not_judged,
    )


def judge_fault(
    fault: Fault,
    planned: Sequence[PlannedCase],
    device: Device,
    *,
    oracle: Oracle | None = None,
    stop_at_first: bool = False,
) -> FaultResult:
    """:func:`find_catches` in this process.

    Args:
        fault, planned, stop_at_first: as for :func:`find_catches`.
        device: where to run.
        oracle: shared with other calls, to save time.
    """
    ask = asked_here(fault, device, oracle or Oracle())
    return find_catches(fault, planned, ask, stop_at_first=stop_at_first)


def fault_matrix(
    faults: Iterable[Fault],
    planned: Sequence[PlannedCase],
    device: Device,
    *,
    stop_at_first: bool = False,
) -> Iterator[FaultResult]:
    """The result of each fault, one after the other, in this process."""
    oracle = Oracle()
    for fault in faults:
        yield judge_fault(fault, planned, device, oracle=oracle, stop_at_first=stop_at_first)


def cases_of(
    fault: Fault, planned: Sequence[PlannedCase]
) -> Iterator[tuple[AnyCase, tuple[str, ...]]]:
    """The cases that call a fault's wrong function, with their checks."""
    for item in planned:
        if isinstance(item.case, Case) == (fault.entry == "fused_experts"):
            yield item.case, item.checks
