"""What all cases of a dtype together say about an implementation's roundings.

Each verdict of the check ``rounding`` lists the profiles that explain its own case. An
implementation rounds in one way, so one profile must be in all of these lists.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moeproof.verdict import Outcome, Verdict

CHECK = "rounding"
"""The check whose verdicts the conclusion is drawn from."""


@dataclass(frozen=True)
class RoundingConclusion:
    """The rounding profiles that explain all judged cases of a dtype.

    Attributes:
        dtype: the dtype.
        declared: name of the profile that is declared for it, or None.
        cases: how many were judged.
        surviving: names of the profiles that explain them all, the tightest first.
        conflict: where there is none, ids of a few cases that leave none together.
        reproducer: the command that comes to the same conclusion from these; empty for PASS.
    """

    dtype: str
    declared: str | None
    cases: int
    surviving: tuple[str, ...]
    conflict: tuple[str, ...]
    reproducer: str

    @property
    def outcome(self) -> Outcome:
        """FAIL if no profile is left."""
        return Outcome.PASS if self.surviving else Outcome.FAIL

    @property
    def message(self) -> str:
        """What was found, in a sentence."""
        cases = "the one case" if self.cases == 1 else f"all {self.cases} cases"
        if self.declared is not None:
            fits = "fits" if self.surviving else "does not fit"
            return f"the declared rounding profile {self.declared} {fits} {cases}"
        if not self.surviving:
            return f"no rounding profile fits {cases}; none is left by {', '.join(self.conflict)}"
        others = len(self.surviving) - 1
        beside = f", as {others} looser do" if others > 1 else ", as 1 looser does" * others
        return f"{self.surviving[0]} fits {cases}{beside}"

    def as_verdict(self) -> Verdict:
        """The conclusion beside the verdicts that it is drawn from."""
        return Verdict(
            case_id=f"all {self.dtype} cases together",
            check=CHECK,
            outcome=self.outcome,
            message=self.message,
            figures={"surviving_profiles": float(len(self.surviving))},
            worst=None,
            evidence={},
            seconds=0.0,
            reproducer=self.reproducer,
        )


def conclude(verdicts: Iterable[Verdict]) -> tuple[RoundingConclusion, ...]:
    """One conclusion for each dtype that the check ``rounding`` has judged a case of."""
    judged: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.check == CHECK and "surviving" in verdict.evidence:
            judged[verdict.evidence["dtype"]].append(verdict)
    return tuple(_conclude(dtype, judged[dtype]) for dtype in sorted(judged))


def _conclude(dtype: str, verdicts: Sequence[Verdict]) -> RoundingConclusion:
    by_case = {verdict.case_id: frozenset(verdict.evidence["surviving"]) for verdict in verdicts}
    common = frozenset.intersection(*by_case.values())
    first = min(verdicts, key=lambda verdict: verdict.case_id)
    conflict = () if common else _conflict(by_case)
    return RoundingConclusion(
        dtype=dtype,
        declared=first.evidence["declared"],
        cases=len(by_case),
        surviving=tuple(name for name in first.evidence["surviving"] if name in common),
        conflict=conflict,
        reproducer=_reproducer(first.reproducer, conflict) if conflict else "",
    )


def _conflict(by_case: dict[str, frozenset[str]]) -> tuple[str, ...]:
    """A few cases that have no profile in common: next is always the one that leaves the fewest."""
    chosen: list[str] = []
    left: frozenset[str] = frozenset.union(*by_case.values())
    while left or not chosen:
        case_id = min(sorted(by_case), key=lambda name: len(left & by_case[name]))
        chosen.append(case_id)
        left &= by_case[case_id]
    return tuple(chosen)


def _reproducer(of_one_case: str, case_ids: Sequence[str]) -> str:
    """``moeproof run`` with the cases, and with the same options as for one of them."""
    _, _, options = of_one_case.partition(f" --check {CHECK} ")
    cases = " ".join(shlex.quote(case_id) for case_id in case_ids)
    return f"moeproof run --case {cases} {options}"
