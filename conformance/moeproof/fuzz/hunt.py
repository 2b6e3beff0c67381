"""One hunt: hypothesis draws cases, one worker judges them, and what fails shrinks."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis

from moeproof.case_id import AnyCase, parse_case_id
from moeproof.fuzz.profile import FuzzProfile
from moeproof.fuzz.reading import (
    bad_verdict,
    is_bad,
    is_vacuous,
    passing_ratio,
    planned_checks,
    same_kind,
)
from moeproof.fuzz.tally import ClosestCall, Failure, Tally
from moeproof.implementation import ImplementationError
from moeproof.isolated_judge import IsolatedJudge
from moeproof.planned_case import PlannedCase
from moeproof.report.metadata import RunMetadata
from moeproof.strategies import cases
from moeproof.verdict import Outcome, Verdict
from moeproof.worker_messages import Subject
from moeproof.worker_places import GpuLease

# A failure that depends on earlier calls is looked for after this many of them.
_EARLIER_CALLS = (1, 4, 16, 64)


@dataclass(frozen=True)
class HuntPlan:
    """What a hunt needs to know.

    Attributes:
        subject: what is judged. profile: how.
        seconds: the time to draw cases in; what fails last may shrink beyond it.
        seed: the same cases are drawn for the same seed, as far as the time goes.
        kept: ids of cases that failed before, which are looked at first.
        breadcrumb: file that holds the id of the case under way, or None for none.
    """

    subject: Subject
    profile: FuzzProfile
    seconds: float
    seed: int
    kept: tuple[str, ...] = ()
    breadcrumb: Path | None = None


@dataclass(frozen=True)
class Started:
    """The implementation is loaded."""

    metadata: RunMetadata


@dataclass(frozen=True)
class CaseJudged:
    """A case was drawn and judged: what was wrong with it, or None."""

    case_id: str
    bad: Verdict | None


Event = Started | CaseJudged | Failure


class CaseFailsError(Exception):
    """What hypothesis is told of a case that fails. Raised at one place, so that it is one bug."""


class Hunt:
    """Draws and judges cases until the time is over or enough of them have failed.

    A case's answer is remembered, so hypothesis, which calls again with what failed, gets the
    same one however unsteady the implementation is, and a case that hangs does so once.

    Attributes:
        reported: ids of the failures so far; another one has to be another case.
        tally: the counts so far.
    """

    def __init__(
        self, plan: HuntPlan, announce: Callable[[Event], None], lease: GpuLease | None = None
    ) -> None:
        self._plan = plan
        self._announce = announce
        self._lease = lease
        self._judge = IsolatedJudge(plan.subject, lease)
        self._history: deque[str] = deque(maxlen=_EARLIER_CALLS[-1])
        self._started = self._deadline = 0.0
        self._broken: str | None = None
        self.reported: set[str] = set()
        self.tally = Tally()

    def run(self) -> None:
        """Hunt.

        Raises:
            ImplementationError: the implementation cannot be loaded, or not any more.
            DeviceError: the device is missing.
        """
        try:
            self._judge.start()
            self._announce(Started(self._judge.metadata(f"fuzz {self._plan.profile.name}")))
            self._started = time.monotonic()
            self._deadline = self._started + self._plan.seconds
            failures = itertools.chain(self._failures_kept(), self._failures_drawn())
            for failure in itertools.islice(failures, self._plan.profile.most_failures):
                self.reported.add(failure.verdict.case_id)
                self._announce(failure)
            if self._broken is not None:
                raise ImplementationError(self._broken)
        finally:
            self.close()

    def close(self) -> None:
        """Kill the worker."""
        self._judge.close()

    @property
    def out_of_time(self) -> bool:
        """Whether no further case may be drawn."""
        return time.monotonic() >= self._deadline or self._broken is not None

    def _failures_kept(self) -> Iterator[Failure]:
        """Of the cases that failed before, which have been made small, those that fail still."""
        for case in map(parse_case_id, self._plan.kept):
            bad = bad_verdict(self.judge(case))
            if bad is not None:
                yield self.confirmed(case, bad)

    def _failures_drawn(self) -> Iterator[Failure]:
        for turn in itertools.count():
            if self.out_of_time:
                return
            yield from _Round(self, self._plan, turn).run()

    def judge(self, case: AnyCase) -> list[Verdict]:
        """The verdicts of a drawn case, up to the first bad one; counted and announced."""
        verdicts: list[Verdict] = []
        self._drop_breadcrumb(case.case_id)
        for check in planned_checks(case, self._plan.subject.device):
            verdicts.append(self._judge.judge_check(case.case_id, check))
            if is_bad(verdicts[-1]):
                break
        bad = bad_verdict(verdicts)
        if bad is not None and bad.message.startswith("not judged"):
            self._broken = bad.message
            return []
        self._count(case, verdicts)
        self._history.append(case.case_id)
        self._announce(CaseJudged(case.case_id, bad))
        return verdicts

    def judge_check(self, case: AnyCase, check: str) -> Verdict:
        """The verdict of one check on a case that shrinking proposes."""
        self._drop_breadcrumb(case.case_id)
        self.tally.shrinking += 1
        return self._judge.judge_check(case.case_id, check)

    def fails_alone(self, case: AnyCase, bad: Verdict) -> bool:
        """Whether a fresh process says the same."""
        return self._fails_after((), case, bad)

    def confirmed(self, case: AnyCase, bad: Verdict) -> Failure:
        """A failure, with the earlier cases that a fresh process needs to say the same."""
        alone = self.fails_alone(case, bad)
        return Failure(bad, case.case_id, () if alone else self._earlier_calls(case, bad))

    def _earlier_calls(self, case: AnyCase, bad: Verdict) -> tuple[str, ...] | None:
        """The fewest, as far as was tried; None if the failure is not seen again."""
        *before, _ = self._history
        until = time.monotonic() + self._plan.profile.shrink_seconds
        for count in _EARLIER_CALLS:
            earlier = tuple(before[-count:])
            if time.monotonic() > until:
                break
            if self._fails_after(earlier, case, bad):
                return earlier
        return None

    def _fails_after(self, earlier: tuple[str, ...], case: AnyCase, bad: Verdict) -> bool:
        with IsolatedJudge(self._plan.subject, self._lease) as fresh:
            device = self._plan.subject.device
            for before in map(parse_case_id, earlier):
                fresh.judge(PlannedCase(before, planned_checks(before, device)))
            for check in planned_checks(case, device):
                verdict = fresh.judge_check(case.case_id, check)
                if same_kind(verdict, bad):
                    return True
        return False

    def _count(self, case: AnyCase, verdicts: list[Verdict]) -> None:
        tally = self.tally
        said = [verdict for verdict in verdicts if verdict.outcome is not Outcome.UNSUPPORTED]
        tally.seconds = time.monotonic() - self._started
        tally.verdicts += len(said)
        if not said:
            tally.unsupported += 1
        elif any(map(is_vacuous, said)):
            tally.vacuous += 1
        else:
            tally.judged += 1
            for verdict in said:
                ratio = passing_ratio(verdict)
                if ratio is not None:
                    tally.came_close(case.problem.dtype, ClosestCall(ratio, case.case_id))

    def _drop_breadcrumb(self, case_id: str) -> None:
        if self._plan.breadcrumb is not None:
            self._plan.breadcrumb.write_text(f"{case_id}\n", encoding="utf-8")


class _Round:
    """One run of hypothesis: it draws until a case fails, then shrinks that one."""

    def __init__(self, hunt: Hunt, plan: HuntPlan, turn: int) -> None:
        self._hunt = hunt
        self._plan = plan
        self._turn = turn
        self._answers: dict[str, Verdict | None] = {}
        self._first: Verdict | None = None
        self._smallest: tuple[AnyCase, Verdict] | None = None
        self._unsteady: list[Failure] = []
        self._shrink_until = 0.0

    def run(self) -> list[Failure]:
        """The failures found: at most one that a fresh process confirms, shrunk."""
        try:
            self._property()()
        except CaseFailsError:
            return [*self._unsteady, self._shrunk()]
        return self._unsteady

    def _property(self) -> Callable[[], None]:
        """What hypothesis runs."""
        profile = self._plan.profile

        @hypothesis.seed(self._plan.seed * 2**20 + self._turn)
        @hypothesis.settings.get_profile(profile.settings_name)
        @hypothesis.given(cases(profile.limits))
        def passes(case: AnyCase) -> None:
            bad = self._answer(case)
            if bad is not None:
                self._smallest = (case, bad)
                raise CaseFailsError(bad.case_id)

        return passes

    def _answer(self, case: AnyCase) -> Verdict | None:
        """What is wrong with a case; the same whenever it is asked for."""
        if case.case_id not in self._answers:
            ask = self._draw if self._first is None else self._shrink
            known = case.case_id in self._hunt.reported
            self._answers[case.case_id] = None if known else ask(case)
        return self._answers[case.case_id]

    def _draw(self, case: AnyCase) -> Verdict | None:
        if self._hunt.out_of_time or self._unsteady:
            return None
        verdicts = self._hunt.judge(case)
        bad = bad_verdict(verdicts)
        if bad is None:
            ratios = [
                ratio for verdict in verdicts if (ratio := passing_ratio(verdict)) is not None
            ]
            if ratios:
                hypothesis.target(max(ratios), label=f"error:bound, {case.problem.dtype}")
            return None
        failure = self._hunt.confirmed(case, bad)
        if failure.only_after != ():
            self._unsteady.append(failure)
            return None
        self._first = bad
        self._shrink_until = time.monotonic() + self._plan.profile.shrink_seconds
        return bad

    def _shrink(self, case: AnyCase) -> Verdict | None:
        """As :meth:`_draw`, but only the check that failed first is asked, for a limited time."""
        assert self._first is not None
        if time.monotonic() >= self._shrink_until:
            return None
        if self._first.check not in planned_checks(case, self._plan.subject.device):
            return None
        verdict = self._hunt.judge_check(case, self._first.check)
        return verdict if same_kind(verdict, self._first) else None

    def _shrunk(self) -> Failure:
        """The smallest case; the first one if the smallest needs other calls before it."""
        assert self._first is not None
        assert self._smallest is not None
        case, bad = self._smallest
        if case.case_id != self._first.case_id and not self._hunt.fails_alone(case, bad):
            bad = self._first
        return Failure(bad, self._first.case_id)
