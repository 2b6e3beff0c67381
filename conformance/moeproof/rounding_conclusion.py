"""What all cases of a dtype together say about an implementation's roundings.

Each verdict of the check ``rounding`` lists the profiles that explain its own case. An
implementation rounds in one way, so one profile must be in all of these lists.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moeproof.rounding_profile import RoundingProfile
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
    """

    dtype: str
    declared: str | None
    cases: int
    surviving: tuple[str, ...]
    conflict: tuple[str, ...]

    @property
    def outcome(self) -> Outcome:
        """FAIL if no profile is left."""
        return Outcome.PASS if self.surviving else Outcome.FAIL

    @property
    def message(self) -> str:
        """What was found, in a sentence."""
        if not self.surviving:
            what = "a rounding profile" if self.declared is None else "the declared profile"
            among = f"; these {len(self.conflict)} rule out all of them" * (len(self.conflict) > 1)
            return f"{self._cases} do not fit {what}{among}"
        if self.declared is not None:
            return f"{self._cases} fit the declared profile {self.declared}"
        others = len(self.surviving) - 1
        beside = f" ({others} looser ones do as well)" if others else ""
        return f"{self._cases} fit {self.surviving[0]}{beside}"

    @property
    def _cases(self) -> str:
        return f"all {self.cases} cases together"

    def reproducer(self, *, implementation: str, device: str) -> str:
        """The command that comes to the same conclusion from the conflicting cases alone."""
        cases = " ".join(shlex.quote(case_id) for case_id in self.conflict)
        return (
            f"moeproof run --case {cases} --implementation {shlex.quote(implementation)} "
            f"--device {device}"
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
    surviving = frozenset.intersection(*by_case.values())
    return RoundingConclusion(
        dtype=dtype,
        declared=verdicts[0].evidence["declared"],
        cases=len(by_case),
        surviving=tuple(sorted(surviving, key=lambda name: (_looseness(name), name))),
        conflict=() if surviving else _conflict(by_case),
    )


def _looseness(name: str) -> tuple[bool, int]:
    """A sum in the storage format has a wide interval; of the others the plainest comes first."""
    profile = RoundingProfile.parse(name)
    return profile.combine_in_output_dtype, profile.roundings


def _conflict(by_case: dict[str, frozenset[str]]) -> tuple[str, ...]:
    """A few cases that have no profile in common: always the one that leaves the fewest."""
    chosen: list[str] = []
    left: frozenset[str] = frozenset.union(*by_case.values())
    while left or not chosen:
        case_id = min(sorted(by_case), key=lambda name: len(left & by_case[name]))
        chosen.append(case_id)
        left &= by_case[case_id]
    return tuple(chosen)
