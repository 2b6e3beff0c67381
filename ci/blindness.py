"""Put gross errors before the judgement of every case: which cases would let one pass?

    python ci/blindness.py            all cases of the profiles quick and standard, and samples
    python ci/blindness.py --quick    those of quick alone

Prints what ``ci/proof.py blindness`` writes into docs/proof.md. No implementation is called. Exits
with 1 if a case of a profile is blind; random cases may be, and the suite then says so itself.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import soak

from moeproof.blindness import Sight, examine_experts, examine_router
from moeproof.case import Case, Layout
from moeproof.case_id import AnyCase
from moeproof.checks.check import missing_for_experts
from moeproof.checks.determinism import other_inputs
from moeproof.checks.exact import exact_interval
from moeproof.checks.metamorphic import relation_of
from moeproof.devices import Device
from moeproof.implementation import Capabilities, Implementation
from moeproof.inputs import ExpertInputs
from moeproof.oracle import RoundingProfile, expert_forward
from moeproof.profiles import plan
from moeproof.router_inputs import make_router_inputs
from moeproof.trial import Trial

_EVERY = 40  # of the exhaustive profile's own cases, one of so many
_RANDOM_CASES = 1000

_ALL = Capabilities(layouts=frozenset(Layout), masked_ids=True, subnormals=True)
_RUNNING_SUM = RoundingProfile("yes", "yes", "yes", "yes", combine_in_output_dtype=True)
CLAIMS = {
    "nothing is declared": _ALL,
    "subnormals are flushed": replace(_ALL, subnormals=False),
    "the sum is rounded after every slot": replace(
        _ALL, rounding=dict.fromkeys(("bf16", "fp16"), _RUNNING_SUM)
    ),
}
"""What an implementation may claim, by which a case is judged: the widest bounds there are."""


@dataclass
class Tally:
    """What has become of one kind of corruption.

    Attributes:
        instances: "refused", "idle", "unjudged", "small" or "blind" -> how many.
        judgements: the same for whole cases, as often as there are claims to judge them by: blind
            if an instance is, else refused if one is, else not applicable for the most frequent
            reason; "idle" where there is no instance at all.
    """

    instances: Counter[str] = field(default_factory=Counter)
    judgements: Counter[str] = field(default_factory=Counter)

    def add(self, sight: Sight) -> None:
        """Count one judgement of a case."""
        reasons = {"idle": sight.idle, "unjudged": sight.unjudged, "small": sight.small}
        counts = {"refused": sight.refused, **reasons, "blind": sight.blind}
        self.instances.update(counts)
        if sight.blind:
            self.judgements["blind"] += 1
        elif sight.refused:
            self.judgements["refused"] += 1
        else:
            self.judgements[max(reasons, key=lambda reason: reasons[reason])] += 1


@dataclass
class Survey:
    """What has been found in a set of cases.

    Attributes:
        cases: how many there were.
        tallies: corruption -> what became of it.
        blind: every blind spot, in words.
        silent: ids of the cases to which no corruption applies.
    """

    cases: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)
    blind: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    def add(self, case: AnyCase) -> None:
        """Examine one case."""
        self.cases += 1
        applies = False
        for judged_by, sight in sights_of(case):
            applies |= bool(sight.refused or sight.blind)
            self.tallies.setdefault(sight.corruption, Tally()).add(sight)
            if sight.blind:
                self.blind.append(f"{case.case_id}: {sight.example} would pass ({judged_by})")
        if not applies:
            self.silent.append(case.case_id)


def sights_of(case: AnyCase) -> Iterator[tuple[str, Sight]]:
    """By what a case is judged, and how that takes each kind of corruption."""
    if not isinstance(case, Case):
        for sight in examine_router(make_router_inputs(case), case.problem):
            yield "routing", sight
        return
    known: ExpertInputs | None = None
    for claim, capabilities in CLAIMS.items():
        if missing_for_experts(case, capabilities) is not None:
            continue
        trial = Trial(case, Implementation("nobody", _nobody, None, capabilities), Device("cpu"))
        if known is not None:
            trial.inputs = known
        known = trial.inputs
        if case.values.is_exact:
            for sight in examine_experts(trial.inputs, exact_interval(trial)):
                yield "exact", sight
            break
        if trial.interval.fmt.name == "fp32" and capabilities.rounding:
            continue  # means nothing there
        for sight in examine_experts(trial.inputs, trial.interval):
            yield f"accuracy where {claim}", sight
    assert known is not None
    yield "determinism, graph_replay", _call_in_between(known)
    yield "metamorphic", _relation(case, known)


def _nobody(*arguments: Any) -> Any:
    raise AssertionError("no implementation is called")


def _call_in_between(inputs: ExpertInputs) -> Sight:
    """Would the output of the other call, if it came back a second time, be noticed?"""
    with np.errstate(all="ignore"):
        right, other = expert_forward(inputs), expert_forward(other_inputs(inputs))
    differs = ~((right == other) | (np.isnan(right) & np.isnan(other))).all(keepdims=True)
    return _yes_or_no("the output of another call", right.any(), differs.any())


def _relation(case: Case, inputs: ExpertInputs) -> Sight:
    """Does the relation change anything at all?"""
    corruption = "a change that is not made"
    if case.problem.num_tokens == 0:
        return _yes_or_no(corruption, False, False)
    changed = relation_of(case).transform(inputs, case)
    before, after = (changed.compared_with or inputs).arrays(), changed.inputs.arrays()
    differs = any(before[name].tobytes() != after[name].tobytes() for name in before)
    contributes = bool(((inputs.topk_ids >= 0) & (inputs.topk_weights != 0)).any())
    return _yes_or_no(corruption, contributes, differs)


def _yes_or_no(corruption: str, active: bool, refused: bool) -> Sight:
    flag = np.array
    return Sight.of(
        corruption,
        active=flag([active]),
        judged=flag([True]),
        substantial=flag([True]),
        refused=flag([refused]),
        describe=lambda index: corruption,
    )


def planned_cases(profile: str) -> list[AnyCase]:
    """The cases of a profile on the CPU."""
    return [planned.case for planned in plan(profile, "cpu")]


def survey(cases: Iterable[AnyCase]) -> Survey:
    """Examine all of the cases."""
    found = Survey()
    for case in cases:
        found.add(case)
    return found


def as_markdown(found: Survey) -> str:
    """A table with a row for each kind of corruption, and the cases to which none applies."""
    kinds = ("refused", "idle", "unjudged", "small", "blind")
    head = " | ".join(kinds)
    lines = [f"| corruption | judgements: {head} | single ones: {head} |", "|---|" + "--:|" * 10]
    for corruption, tally in found.tallies.items():
        counts = [*(tally.judgements[kind] for kind in kinds)]
        counts += [tally.instances[kind] for kind in kinds]
        lines.append(f"| {corruption} | {' | '.join(str(count) for count in counts)} |")
    silent = ", ".join(f"`{case_id}`" for case_id in found.silent[:8])
    more = ", ..." if len(found.silent) > 8 else ""
    lines.append(f"\nNo corruption applies to {len(found.silent)} cases: {silent}{more}")
    return "\n".join(lines) + "\n"


def report() -> tuple[str, list[str]]:
    """What docs/proof.md says, and the blind spots of the profiles."""
    standard = planned_cases("standard")
    known = set(standard)
    own = (case for case in planned_cases("exhaustive") if case not in known)
    planned = survey(itertools.chain(standard, itertools.islice(own, 0, None, _EVERY)))
    random = survey(soak.random_case(turn) for turn in range(_RANDOM_CASES))
    blind = {spot.split(": ")[0] for spot in random.blind}
    text = (
        f"{planned.cases} cases: all of quick and standard, and every {_EVERY}th of exhaustive. "
        f"Blind spots: {len(planned.blind)}.\n\n{as_markdown(planned)}\n"
        f"{random.cases} random cases, as `ci/soak.py` draws them. Blind: {len(blind)}, of which a "
        f"run says so itself (ERROR).\n\n{as_markdown(random)}"
    )
    return text, planned.blind


def main() -> int:
    """Parse the command line; 1 if a planned case is blind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the cases of quick alone")
    if parser.parse_args().quick:
        found = survey(planned_cases("quick"))
        text, blind = as_markdown(found), found.blind
    else:
        text, blind = report()
    print(text)
    for spot in blind:
        print(f"BLIND {spot}", file=sys.stderr)
    return 1 if blind else 0


if __name__ == "__main__":
    sys.exit(main())
