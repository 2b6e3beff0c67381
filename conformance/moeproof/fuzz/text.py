"""What a fuzzing run shows on the terminal."""

from __future__ import annotations

import time

from moeproof.fuzz.fuzzer import FuzzResult
from moeproof.fuzz.hunt import CaseJudged, Event, HuntPlan, Started
from moeproof.fuzz.tally import Failure, Tally

_SECONDS_BETWEEN_LINES = 10.0


class FuzzProgress:
    """A line every few seconds, and one for each bad case; in the debug profile for every case."""

    def __init__(self, plan: HuntPlan) -> None:
        self._plan = plan
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def watch(self, event: Event, tally: Tally) -> None:
        """Show what is due."""
        if isinstance(event, Started):
            return
        if isinstance(event, Failure):
            print(f"shrunk to {event.verdict.case_id}", flush=True)
        elif self._plan.profile.tells_every_case:
            _tell(event)
        elif event.bad is not None:
            print(f"{event.bad.outcome.value} {event.bad.check}  {event.case_id}", flush=True)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            print(f"after {tally.seconds:.0f} s: {_counts(tally)}", flush=True)


def describe_result(result: FuzzResult, plan: HuntPlan) -> str:
    """The counts, the closest call of each dtype, the failures."""
    tally = result.tally
    lines = [f"{_counts(tally)}, {tally.verdicts} verdicts; seed {plan.seed}"]
    for dtype, call in sorted(tally.closest.items()):
        lines.append(f"largest error:bound, {dtype}: {call.error_ratio:.3g}  {call.case_id}")
    lines += [f"\n{describe_failure(failure, plan)}" for failure in result.failures]
    return "\n".join(lines)


def describe_failure(failure: Failure, plan: HuntPlan) -> str:
    """What failed, the smallest case, and the command that shows it again."""
    verdict = failure.verdict
    lines = [f"{verdict.outcome.value} {verdict.check}  {verdict.case_id}", f"  {verdict.message}"]
    if failure.found_as != verdict.case_id:
        lines.append(f"  found as {failure.found_as}")
    if failure.only_after is None:
        lines.append("  not seen again: neither alone nor after the calls that came before it")
    elif failure.only_after:
        lines.append("  only after other calls: the implementation keeps state between them")
    return "\n".join([*lines, f"  {failure.reproducer(plan.subject)}"])


def _counts(tally: Tally) -> str:
    counts = [f"{tally.judged} cases judged, {tally.cases_per_second:.1f} a second"]
    if tally.unsupported:
        counts.append(f"{tally.unsupported} not claimed")
    if tally.vacuous:
        counts.append(f"{tally.vacuous} vacuous")
    if tally.shrinking:
        counts.append(f"{tally.shrinking} more to shrink")
    return ", ".join(counts)


def _tell(event: CaseJudged) -> None:
    word = "ok" if event.bad is None else f"{event.bad.outcome.value} {event.bad.check}"
    print(f"{word}  {event.case_id}", flush=True)
