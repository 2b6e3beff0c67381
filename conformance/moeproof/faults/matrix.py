"""Which checks catch which faults, in which case first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from moeproof.case import Case
from moeproof.case_id import AnyCase
from moeproof.devices import Device
from moeproof.faults.fault import Fault
from moeproof.implementation import Implementation
from moeproof.judge import judge, make_trial
from moeproof.planned_case import PlannedCase
from moeproof.trial import RouterTrial, Trial
from moeproof.verdict import Outcome


@dataclass(frozen=True)
class Catch:
    """The first case in which a check caught a fault.

    Attributes:
        check: the check.
        case_id: the case.
        message: what the check said.
        cases, seconds: judged and spent until then, this case included.
    """

    check: str
    case_id: str
    message: str
    cases: int
    seconds: float


@dataclass(frozen=True)
class FaultResult:
    """What the checks made of one fault.

    Attributes:
        fault: the fault.
        catches: the first catch of each check that caught it, in the order of the cases.
        cases, seconds: judged and spent in all.
    """

    fault: Fault
    catches: tuple[Catch, ...]
    cases: int
    seconds: float

    @property
    def caught(self) -> bool:
        """Whether any check caught it."""
        return bool(self.catches)


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
    """What is true of a case whatever is judged on it, computed once for all faults."""

    def __init__(self) -> None:
        self._known: dict[AnyCase, Trial] = {}

    def trial(self, case: AnyCase, fault: Fault, device: Device) -> Trial | RouterTrial:
        """The fault's trial on a case."""
        if isinstance(case, Case) and case in self._known:
            return same_trial(self._known[case], fault.implementation)
        trial = make_trial(case, fault.implementation, device)
        if isinstance(trial, Trial):
            self._known[case] = trial
        return trial


def judge_fault(
    fault: Fault,
    planned: Sequence[PlannedCase],
    device: Device,
    *,
    oracle: Oracle | None = None,
    stop_at_first: bool = False,
) -> FaultResult:
    """Judge a fault by a plan; a check that has caught it is not asked again.

    FAIL and ERROR are catches. The right steps (``CONTROL``) must have neither on the same plan.

    Args:
        fault: what is judged; cases of the other kind are left out.
        planned: the cases and their checks.
        device: where to run.
        oracle: shared with other calls, to save time.
        stop_at_first: stop at the first catch of any check.
    """
    oracle = oracle or Oracle()
    catches: dict[str, Catch] = {}
    started = time.perf_counter()
    cases = 0
    for case, checks in _cases_of_kind(fault, planned):
        cases += 1
        trial = oracle.trial(case, fault, device)
        for check in checks:
            if check in catches:
                continue
            verdict = judge(trial, check)
            if verdict.outcome in (Outcome.FAIL, Outcome.ERROR):
                seconds = time.perf_counter() - started
                catches[check] = Catch(check, case.case_id, verdict.message, cases, seconds)
        if catches and stop_at_first:
            break
    return FaultResult(fault, tuple(catches.values()), cases, time.perf_counter() - started)


def fault_matrix(
    faults: Iterable[Fault],
    planned: Sequence[PlannedCase],
    device: Device,
    *,
    stop_at_first: bool = False,
) -> Iterator[FaultResult]:
    """The result of each fault, one after the other."""
    oracle = Oracle()
    for fault in faults:
        yield judge_fault(fault, planned, device, oracle=oracle, stop_at_first=stop_at_first)


def _cases_of_kind(
    fault: Fault, planned: Sequence[PlannedCase]
) -> Iterator[tuple[AnyCase, tuple[str, ...]]]:
    for item in planned:
        if isinstance(item.case, Case) == (fault.entry == "fused_experts"):
            yield item.case, item.checks


def as_markdown(results: Sequence[FaultResult]) -> str:
    """A table with one row a fault: what it is, which checks caught it, and where first.

    The number beside a check is how many cases of the fault's kind it needed.
    """
    lines = ["| fault | what is wrong | seen in | caught by | first in |", "|---|---|---|---|---|"]
    for result in results:
        fault = result.fault
        seen = ", ".join(_link(issue) for issue in fault.stands_for)
        checks = ", ".join(f"{catch.check} {catch.cases}" for catch in result.catches)
        first = f"`{result.catches[0].case_id}`" if result.caught else ""
        cells = (f"`{fault.name}`", fault.summary, seen, checks or "**not caught**", first)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _link(issue: str) -> str:
    """A Markdown link to a public issue given as ``owner/repository#number``."""
    repository, number = issue.split("#")
    return f"[{repository.split('/')[1]}#{number}](https://github.com/{repository}/issues/{number})"
