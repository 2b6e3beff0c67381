"""Which rounding profiles an output is right under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moeproof.oracle.experts import ExpertIntervals
from moeproof.oracle.interval import Interval
from moeproof.oracle.statistic import R_LIMIT, R_MINIMUM_OUTPUTS, r_statistic
from moeproof.rounding_profile import RoundingProfile

_TOKENS_SCREENED = 3
_NEAREST_COMPARED = 3


@dataclass(frozen=True)
class Nearest:
    """The profile that an output fits best, and how it fails it.

    Attributes:
        profile: the profile.
        interval: what it allows.
        r_statistic: the output's, if it can be told.
    """

    profile: RoundingProfile
    interval: Interval
    r_statistic: float | None


class ProfileInference:
    """Judges outputs of one call, whose values have independent random signs, by many profiles.

    What is costly is put off: a few tokens are judged first, first of all under the looser of two
    profiles of which one allows all that the other does.

    Args:
        intervals: of the call.
        candidates: the profiles.
    """

    def __init__(self, intervals: ExpertIntervals, candidates: Sequence[RoundingProfile]) -> None:
        self._intervals = intervals
        self._candidates = tuple(candidates)
        self._screened: dict[RoundingProfile, _Screened] = {}
        self._whole: dict[RoundingProfile, Interval] = {}

    def surviving(self, output: NDArray[np.generic]) -> tuple[bool, ...]:
        """For each candidate, whether an output (T, H) is right under it.

        It is if every element lies inside the profile's interval and, where there are enough
        elements to tell, errors are no larger than random rounding makes them (R).
        """
        if len(self._candidates) == 1:
            return (self._is_right(output, self._candidates[0]),)
        screened = output[self._tokens].astype(np.float64)
        passed = [
            self._screen(enclosing(candidate)).accepts(screened).all()
            and self._screen(candidate).accepts(screened).all()
            for candidate in self._candidates
        ]
        return tuple(
            bool(may_be) and self._is_right(output, candidate)
            for may_be, candidate in zip(passed, self._candidates, strict=True)
        )

    def nearest(self, output: NDArray[np.generic]) -> Nearest:
        """The candidate that leaves the fewest elements outside."""
        screened = output[self._tokens].astype(np.float64)

        def outside_screened(candidate: RoundingProfile) -> int:
            return int((~self._screen(candidate).accepts(screened)).sum())

        def outside(candidate: RoundingProfile) -> int:
            return int((~self._interval(candidate).accepts(output)).sum())

        few = sorted(self._candidates, key=outside_screened)[:_NEAREST_COMPARED]
        best = min(few, key=outside)
        interval = self._interval(best)
        return Nearest(best, interval, _statistic(output, interval))

    def _is_right(self, output: NDArray[np.generic], candidate: RoundingProfile) -> bool:
        interval = self._interval(candidate)
        if not interval.accepts(output).all():
            return False
        statistic = _statistic(output, interval)
        return statistic is None or statistic <= R_LIMIT

    def _interval(self, candidate: RoundingProfile) -> Interval:
        if candidate not in self._whole:
            self._whole[candidate] = self._intervals.under(candidate)
        return self._whole[candidate]

    def _screen(self, candidate: RoundingProfile) -> _Screened:
        if candidate not in self._screened:
            interval = self._intervals_of_few.under(candidate)
            screened = _Screened(interval.lower, interval.upper, interval.overflow)
            self._screened[candidate] = screened
        return self._screened[candidate]

    @cached_property
    def _tokens(self) -> NDArray[np.int64]:
        return self._intervals.plainest_tokens(_TOKENS_SCREENED)

    @cached_property
    def _intervals_of_few(self) -> ExpertIntervals:
        return self._intervals.of_tokens(self._tokens)


def enclosing(profile: RoundingProfile) -> RoundingProfile:
    """A profile that allows all that this one does: the slots are summed in the storage format.

    Such a sum may lose a rounding of every term, whether or not there is one.
    """
    before = profile.weights_applied in ("before", "intermediate")
    return replace(
        profile,
        expert_output="no" if before else "yes",
        weights_applied=profile.weights_applied if before else "after",
        combine_in_output_dtype=True,
    )


@dataclass(frozen=True)
class _Screened:
    """What an interval allows, all (t, H)."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    overflow: NDArray[np.bool_]

    def accepts(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray((self.lower <= values) & (values <= self.upper) | self.overflow)


def _statistic(output: NDArray[np.generic], interval: Interval) -> float | None:
    judged = ~interval.overflow & (interval.bound > 0)
    if judged.sum() < R_MINIMUM_OUTPUTS:
        return None
    return r_statistic(output, interval)
