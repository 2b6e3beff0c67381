"""What the failures have in common: the first thing to look at when many cases fail."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from moeproof.report.page.group_traits import group_traits
from moeproof.report.page.traits import Judged
from moeproof.verdict import Outcome

Trait = tuple[str, str]
"""A name and a value, such as ``("layout", "offset")``."""
Tally = dict[frozenset[Trait], Counter[str]]
"""How many verdicts with just these traits are ``judged``, and how many of them ``broken``."""

_MOST = 6


@dataclass(frozen=True)
class Suspect:
    """One or two traits that failures share.

    Attributes:
        traits: of the case, and its check.
        broken: verdicts with these traits that are FAIL or ERROR, but for those that an earlier
            suspect accounts for.
        judged: the same of those that are PASS, FAIL or ERROR.
    """

    traits: tuple[Trait, ...]
    broken: int
    judged: int


def suspects(judged: Sequence[Judged]) -> list[Suspect]:
    """The traits that tell broken verdicts from right ones best, the best first.

    Each time the one or two traits with the highest F1 score, then the same for the verdicts that
    do not have them, so that every failure is counted once.
    """
    if not any(item.broken for item in judged):
        return []
    left = _tally(judged)
    found: list[Suspect] = []
    while len(found) < _MOST and (best := _best(left)) is not None:
        found.append(best)
        left = {
            traits: counts for traits, counts in left.items() if not traits.issuperset(best.traits)
        }
    return found


def _tally(judged: Iterable[Judged]) -> Tally:
    """Verdicts by their traits, without those that all share: they explain nothing."""
    items = [item for item in judged if item.verdict.outcome is not Outcome.UNSUPPORTED]
    values: dict[str, set[str]] = defaultdict(set)
    for item in items:
        for name, value in _traits(item):
            values[name].add(value)
    tally: Tally = defaultdict(Counter)
    for item in items:
        traits = frozenset(trait for trait in _traits(item) if len(values[trait[0]]) > 1)
        tally[traits]["judged"] += 1
        tally[traits]["broken"] += item.broken
    return tally


def _traits(item: Judged) -> Iterable[Trait]:
    of_routing = group_traits(item.verdict.case_id)
    return {"check": item.verdict.check, **item.traits.named, **of_routing}.items()


def _best(tally: Tally) -> Suspect | None:
    broken: Counter[tuple[Trait, ...]] = Counter()
    judged: Counter[tuple[Trait, ...]] = Counter()
    for traits, counts in tally.items():
        for suspect in _ones_and_twos(traits):
            broken[suspect] += counts["broken"]
            judged[suspect] += counts["judged"]
    all_broken = sum(counts["broken"] for counts in tally.values())
    all_judged = sum(counts["judged"] for counts in tally.values())

    def tells(suspect: tuple[Trait, ...]) -> bool:
        """Failures are more frequent with it, and at least half of what passed has it not."""
        passed = judged[suspect] - broken[suspect]
        more_frequent = broken[suspect] * all_judged > all_broken * judged[suspect]
        return more_frequent and 2 * passed <= all_judged - all_broken

    def rank(suspect: tuple[Trait, ...]) -> tuple[float, int, tuple[Trait, ...]]:
        """F1, the harmonic mean of both shares; of equals the simpler, then by name."""
        f1 = 2 * broken[suspect] / (judged[suspect] + all_broken)
        return -f1, len(suspect), suspect

    best = min(filter(tells, broken), key=rank, default=None)
    return None if best is None else Suspect(best, broken[best], judged[best])


def _ones_and_twos(traits: frozenset[Trait]) -> list[tuple[Trait, ...]]:
    ordered = sorted(traits)
    return [*((trait,) for trait in ordered), *combinations(ordered, 2)]
