"""Judge random cases on all right variants, for hours if need be: no check may ever refuse one.

    python ci/soak.py --minutes 30 --journal soak.jsonl
    python ci/soak.py --minutes 30 --journal soak-3.jsonl --first 3 --step 16 --variants 4

Appends a line per case to the journal and goes on after the last one when started again. Several
processes share the cases by ``--first`` and ``--step``, each with a journal of its own;
``ci/proof.py variants`` adds journals up. Prints how much has been judged, every false alarm, and
how near each variant came to the bounds. Exits with 1 if there was a false alarm.

``--variants`` judges so many of the variants in a case, in turns: cases are then drawn faster than
by judging all.

A variant is judged twice: declaring nothing, where its true rounding profile must be among
those that are inferred, and declaring that profile.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moeproof.case import Case, Layout, ValueFamily
from moeproof.case_id import AnyCase
from moeproof.checks.accuracy import VacuousCaseError
from moeproof.devices import Device
from moeproof.exact_values import smallest_hidden_size
from moeproof.faults.matrix import same_trial
from moeproof.implementation import Implementation
from moeproof.judge import checks_for, judge, make_trial
from moeproof.number_format import FP32, STORAGE_FORMATS
from moeproof.patterns import PATTERNS
from moeproof.problem import Problem
from moeproof.random_source import RandomSource
from moeproof.rounding_profile import RoundingProfile
from moeproof.router_case import LogitFamily, RouterCase, RouterProblem
from moeproof.trial import RouterTrial, Trial
from moeproof.variants import VARIANTS, Variant
from moeproof.verdict import Outcome

_MOST_PRODUCTS = 400_000  # of one case, so that a case takes a fraction of a second
# A case with fewer may accept zeros, above all where one intermediate value decides about a row.
_FEWEST_OUTPUTS, _SMALLEST_INTERMEDIATE = 16, 3
# What these two look at hardly differs between variants, and they take long: in turns.
_IN_TURNS, _TURNS = frozenset({"memory", "determinism"}), 4


def random_case(turn: int) -> AnyCase:
    """The case of this number: every fifth is the router's."""
    random = RandomSource("soak", str(turn))

    def pick(*choices: Any) -> Any:
        return choices[int(random.integers(0, len(choices), (1,))[0])]

    def size(largest: int) -> int:
        """Small sizes as likely as large ones, odd ones included."""
        limit = 2 ** int(random.integers(0, largest.bit_length() + 1, (1,))[0])
        return int(random.integers(1, min(limit, largest) + 1, (1,))[0])

    if turn % 5 == 4:
        return _random_router_case(pick, size, seed=turn)
    while True:
        experts = size(300)
        problem = Problem(
            size(140), size(400), size(300), experts, size(min(experts, 16)),
            pick(*STORAGE_FORMATS),
        )  # fmt: skip
        pattern = PATTERNS[pick(*PATTERNS)]
        values = pick(*ValueFamily)
        products = problem.num_tokens * problem.top_k * problem.hidden_size
        products *= 3 * problem.intermediate_size
        weights = 3 * experts * problem.hidden_size * problem.intermediate_size
        fits = pattern.misfit(problem, "") is None and max(products, weights) <= _MOST_PRODUCTS
        fits &= problem.num_tokens * problem.hidden_size >= _FEWEST_OUTPUTS
        fits &= problem.intermediate_size >= _SMALLEST_INTERMEDIATE
        if fits and not (values.is_exact and problem.hidden_size < smallest_hidden_size()):
            return Case(problem, pattern.name, values, pick(*Layout), turn)


def _random_router_case(
    pick: Callable[..., Any], size: Callable[[int], int], *, seed: int
) -> RouterCase:
    while True:
        groups = pick(1, 1, 2, 4, 8)
        kept, per_group = size(groups), size(128)
        problem = RouterProblem(
            num_tokens=size(64),
            num_experts=groups * per_group,
            top_k=size(min(16, kept * per_group)),
            scoring=pick("softmax", "sigmoid"),
            renormalize=pick(True, False),
            has_bias=pick(True, False),
            num_groups=groups,
            topk_groups=kept,
            scaling_factor=pick(1.0, 2.5, 16.0),
            dtype=pick(*STORAGE_FORMATS),
        )
        return RouterCase(problem, pick(*LogitFamily), seed)


@dataclass
class Tally:
    """What has been judged so far, from the lines of a journal.

    Attributes:
        last_turn: number of the last case; None before the first.
        cases, verdicts, outputs: judged cases, verdicts that were not UNSUPPORTED, output elements
            behind the accuracy verdicts.
        vacuous: verdicts that a case of so few outputs cannot give.
        alarms: lines of false alarms.
        largest: variant -> largest error:bound ratio, its case.
        largest_r: variant -> largest R statistic, its case.
        declared_r: the same for variants that declare their rounding profile.
    """

    last_turn: int | None = None
    cases: int = 0
    verdicts: int = 0
    outputs: int = 0
    vacuous: int = 0
    alarms: list[str] = field(default_factory=list)
    largest: dict[str, tuple[float, str]] = field(default_factory=dict)
    largest_r: dict[str, tuple[float, str]] = field(default_factory=dict)
    declared_r: dict[str, tuple[float, str]] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        """Count one line."""
        self.last_turn = line["turn"]
        self.cases += 1
        self.verdicts += line["verdicts"]
        self.outputs += line["outputs"]
        self.vacuous += line["vacuous"]
        self.alarms += line["alarms"]
        # Under a declared profile error:bound reaches 1: the output's own rounding is most of it.
        for kind, key, table in (
            ("figures", "max_error_ratio", self.largest),
            ("figures", "r_statistic", self.largest_r),
            ("declared", "r_statistic", self.declared_r),
        ):
            for name, figures in line[kind].items():
                reached = (figures.get(key, 0.0), line["case_id"])
                table[name] = max(table.get(name, (0.0, "")), reached)


def judge_turn(turn: int, most_variants: int | None = None) -> dict[str, Any]:
    """The variants of a case's kind, by all of its checks, as a line of the journal.

    most_variants: judge no more than so many, other ones in the next case; None for all.
    """
    case = random_case(turn)
    line: dict[str, Any] = {"turn": turn, "case_id": case.case_id, "verdicts": 0, "outputs": 0}
    line |= {"alarms": [], "vacuous": 0, "figures": {}, "declared": {}}
    kind = "experts" if isinstance(case, Case) else "router"
    known: dict[RoundingProfile | None, Trial] = {}
    variants = [variant for variant in VARIANTS.values() if variant.kind == kind]
    count = min(most_variants or len(variants), len(variants))
    for place in range(count):
        variant = variants[(turn * count + place) % len(variants)]
        trial = _trial(case, variant.implementation, known)
        for check in checks_for(case, "cpu"):
            if check not in _IN_TURNS or place % _TURNS == turn % _TURNS:
                _judge(trial, check, variant, line)
        if isinstance(trial, Trial) and trial.case.problem.format != FP32:
            declaring = _trial(case, variant.declared, known)
            assert isinstance(declaring, Trial)
            declaring.output = trial.output
            _judge(declaring, "accuracy", variant, line)
    return line


def _trial(
    case: AnyCase, implementation: Implementation, known: dict[RoundingProfile | None, Trial]
) -> Trial | RouterTrial:
    """A trial, of whose oracle all is kept for the next one with the same rounding profile."""
    profile = implementation.capabilities.rounding.get(case.problem.dtype)
    if profile in known:
        return same_trial(known[profile], implementation)
    trial = make_trial(case, implementation, Device("cpu"))
    if isinstance(trial, Trial):
        known[profile] = trial
    return trial


def _judge(trial: Trial | RouterTrial, check: str, variant: Variant, line: dict[str, Any]) -> None:
    """Enter one verdict in a line."""
    verdict = judge(trial, check)
    if verdict.outcome is Outcome.UNSUPPORTED:
        return
    line["verdicts"] += 1
    name = trial.implementation.name.partition(":")[2]
    problem = ""
    if verdict.message.startswith(VacuousCaseError.__name__):
        line["vacuous"] += 1
    elif verdict.outcome is not Outcome.PASS:
        problem = verdict.message
    elif check == "rounding" and variant.rounding.name not in verdict.evidence["surviving"]:
        problem = f"its rounding profile {variant.rounding.name} is ruled out"
    if problem:
        line["alarms"].append(f"{name}: {check} on {verdict.case_id}: {problem}")
    if check == "accuracy" and isinstance(trial, Trial):
        declares = name != variant.name
        line["outputs"] += 0 if declares else int(trial.output.size)
        if not trial.case.values.rounds_once:  # there the output's own rounding is all
            kept = ("max_error_ratio", "r_statistic")
            figures = {key: verdict.figures[key] for key in kept if key in verdict.figures}
            line["declared" if declares else "figures"][variant.name] = figures


def soak(
    journal: Path,
    *,
    minutes: float,
    first: int = 0,
    step: int = 1,
    most_variants: int | None = None,
) -> Tally:
    """Judge case ``first`` and every ``step``-th from there until the time is up."""
    tally = read(journal)
    deadline = time.monotonic() + 60 * minutes
    with journal.open("a", encoding="utf-8") as out:
        while time.monotonic() < deadline:
            turn = first if tally.last_turn is None else tally.last_turn + step
            line = judge_turn(turn, most_variants)
            out.write(json.dumps(line) + "\n")
            out.flush()
            tally.add(line)
            for alarm in line["alarms"]:
                print(f"FALSE ALARM {alarm}", flush=True)
    return tally


def read(*journals: Path) -> Tally:
    """What journals hold so far; nothing if they do not exist.

    Raises:
        ValueError: two of them hold the same case.
    """
    tally = Tally()
    seen: set[int] = set()
    for journal in journals:
        for text in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
            line = json.loads(text)
            if line["turn"] in seen:
                raise ValueError(f"{journal} holds case {line['turn']}, which was counted already")
            seen.add(line["turn"])
            tally.add(line)
    return tally


def report(tally: Tally) -> str:
    """The counts, and the nearest that each variant came to its bounds, as Markdown."""
    lines = [
        f"{tally.cases} random cases, {tally.verdicts} verdicts, {tally.outputs} output elements: "
        f"{len(tally.alarms)} false alarms ({tally.vacuous} verdicts were refused by the suite "
        "itself, for cases on which a gross error would pass).",
        "",
        "| variant | how it differs | found in | largest error:bound | largest R "
        "| largest R, profile declared |",
        "|---|---|---|--:|--:|--:|",
    ]
    for name, variant in VARIANTS.items():
        cells = [f"`{name}`", variant.summary, variant.engines]
        for table in (tally.largest, tally.largest_r, tally.declared_r):
            cells.append(f"{table[name][0]:.2f}" if name in table else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Parse the command line; 1 if a right variant was ever refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--journal", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--step", type=int, default=1, help="from one case's number to the next")
    parser.add_argument("--variants", type=int, help="variants per case (default: all)")
    options = parser.parse_args()
    tally = soak(
        options.journal,
        minutes=options.minutes,
        first=options.first,
        step=options.step,
        most_variants=options.variants,
    )
    print(report(tally))
    return 1 if tally.alarms else 0


if __name__ == "__main__":
    sys.exit(main())
