"""How hard to look: the fuzzer's profiles, as settings profiles of hypothesis.

Every setting is given, for hypothesis would take the others from the profile that happens to be
active: under ``CI`` that is one which draws the same examples for ever. Its database is not used,
for it keeps bytes that only the same strategies can read, and none beside a seed: failures are kept
as :mod:`moeproof.regressions`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, settings

from moeproof.strategies import SizeLimits

_PHASES = (Phase.generate, Phase.target, Phase.shrink)


@dataclass(frozen=True)
class FuzzProfile:
    """A named way to fuzz.

    Attributes:
        name, summary: for people.
        limits: the largest problems.
        cases_per_round: hypothesis starts afresh after so many, from small cases.
        shrink_seconds: the longest that one failure may shrink. Hypothesis itself ends at 300.
        most_failures: the hunt ends when so many have been found and shrunk.
        tells_every_case: names each case as it is judged.
    """

    name: str
    summary: str
    limits: SizeLimits
    cases_per_round: int
    shrink_seconds: float
    most_failures: int
    tells_every_case: bool = False

    def __post_init__(self) -> None:
        settings.register_profile(
            self.settings_name,
            max_examples=self.cases_per_round,
            database=None,
            deadline=None,
            derandomize=False,
            phases=_PHASES,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )

    @property
    def settings_name(self) -> str:
        """The name under which hypothesis knows the profile."""
        return f"moeproof-{self.name}"


_SMALL = SizeLimits(num_tokens=100, num_experts=300, top_k=8, width=130, weights=100_000)
_LARGE = SizeLimits(num_tokens=520, num_experts=520, top_k=16, width=520, weights=1_500_000)

FUZZ_PROFILES = {
    profile.name: profile
    for profile in (
        FuzzProfile(
            "pr",
            "small problems; ends at the first failure",
            _SMALL,
            cases_per_round=400,
            shrink_seconds=60.0,
            most_failures=1,
        ),
        FuzzProfile(
            "nightly",
            "large problems too; goes on after a failure, up to five",
            _LARGE,
            cases_per_round=2000,
            shrink_seconds=290.0,
            most_failures=5,
        ),
        FuzzProfile(
            "debug",
            "small problems, each named as it is judged; ends at the first failure",
            _SMALL,
            cases_per_round=400,
            shrink_seconds=290.0,
            most_failures=1,
            tells_every_case=True,
        ),
    )
}
