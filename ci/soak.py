"""Judge random cases on all right variants, for hours if need be: no check may ever refuse one.

    python ci/soak.py --minutes 30 --journal soak.jsonl

Appends a line per case to the journal and goes on after the last one when started again. Prints
how much has been judged, every false alarm, and how near each variant came to the bounds. Exits
with 1 if there was a false alarm.
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
from moeproof.judge import checks_for, judge, make_trial
from moeproof.number_format import STORAGE_FORMATS
from moeproof.patterns import PATTERNS
from moeproof.problem import Problem
from moeproof.random_source import RandomSource
from moeproof.router_case import LogitFamily, RouterCase, RouterProblem
from moeproof.trial import Trial
from moeproof.variants import VARIANTS
from moeproof.verdict import Outcome

_MOST_PRODUCTS = 400_000  # of one case, so that a case takes a fraction of a second


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
        next_turn: number of the next case.
        cases, verdicts, outputs: judged cases, verdicts that were not UNSUPPORTED, output elements
            behind the accuracy verdicts.
        vacuous: verdicts that a case of so few outputs cannot give.
        alarms: lines of false alarms.
        largest: variant -> largest error:bound ratio, its case.
        largest_r: variant -> largest R statistic, its case.
    """

    next_turn: int = 0
    cases: int = 0
    verdicts: int = 0
    outputs: int = 0
    vacuous: int = 0
    alarms: list[str] = field(default_factory=list)
    largest: dict[str, tuple[float, str]] = field(default_factory=dict)
    largest_r: dict[str, tuple[float, str]] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        """Count one line."""
        self.next_turn = line["turn"] + 1
        self.cases += 1
        self.verdicts += line["verdicts"]
        self.outputs += line["outputs"]
        self.vacuous += line["vacuous"]
        self.alarms += line["alarms"]
        for name, figures in line["figures"].items():
            for key, table in (("max_error_ratio", self.largest), ("r_statistic", self.largest_r)):
                reached = (figures.get(key, 0.0), line["case_id"])
                table[name] = max(table.get(name, (0.0, "")), reached)


def judge_turn(turn: int) -> dict[str, Any]:
    """All variants of a case's kind, by all of its checks, as a line of the journal."""
    case = random_case(turn)
    line: dict[str, Any] = {"turn": turn, "case_id": case.case_id, "verdicts": 0, "outputs": 0}
    line |= {"alarms": [], "vacuous": 0, "figures": {}}
    kind = "experts" if isinstance(case, Case) else "router"
    known: Trial | None = None
    for name, variant in VARIANTS.items():
        if variant.kind != kind:
            continue
        if known is None:
            trial = make_trial(case, variant.implementation, Device("cpu"))
            known = trial if isinstance(trial, Trial) else None
        else:
            trial = same_trial(known, variant.implementation)
        for check in checks_for(case, "cpu"):
            verdict = judge(trial, check)
            if verdict.outcome is Outcome.UNSUPPORTED:
                continue
            line["verdicts"] += 1
            if verdict.message.startswith(VacuousCaseError.__name__):
                line["vacuous"] += 1
            elif verdict.outcome is not Outcome.PASS:
                line["alarms"].append(f"{name}: {check} on {case.case_id}: {verdict.message}")
            if check == "accuracy" and isinstance(trial, Trial):
                line["outputs"] += int(trial.output.size)
                if not trial.case.values.rounds_once:  # there the output's own rounding is all
                    kept = ("max_error_ratio", "r_statistic")
                    figures = verdict.figures
                    line["figures"][name] = {key: figures[key] for key in kept if key in figures}
    return line


def soak(journal: Path, *, minutes: float) -> Tally:
    """Judge case after case until the time is up."""
    tally = read(journal)
    deadline = time.monotonic() + 60 * minutes
    with journal.open("a", encoding="utf-8") as out:
        while time.monotonic() < deadline:
            line = judge_turn(tally.next_turn)
            out.write(json.dumps(line) + "\n")
            out.flush()
            tally.add(line)
            for alarm in line["alarms"]:
                print(f"FALSE ALARM {alarm}", flush=True)
    return tally


def read(journal: Path) -> Tally:
    """What a journal holds so far; nothing if there is none."""
    tally = Tally()
    if journal.exists():
        for text in journal.read_text(encoding="utf-8").splitlines():
            tally.add(json.loads(text))
    return tally


def report(tally: Tally) -> str:
    """The counts, and the nearest that each variant came to its bounds, as Markdown."""
    lines = [
        f"{tally.cases} random cases, {tally.verdicts} verdicts, {tally.outputs} output elements: "
        f"{len(tally.alarms)} false alarms ({tally.vacuous} verdicts were refused by the suite "
        "itself, for cases of so few outputs that zeros would pass).",
        "",
        "| variant | how it differs | found in | largest error:bound | largest R |",
        "|---|---|---|--:|--:|",
    ]
    for name, variant in VARIANTS.items():
        cells = [f"`{name}`", variant.summary, variant.engines]
        for table in (tally.largest, tally.largest_r):
            cells.append(f"{table[name][0]:.2f}" if name in table else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Parse the command line; 1 if a right variant was ever refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--journal", type=Path, default=Path("soak.jsonl"))
    options = parser.parse_args()
    tally = soak(options.journal, minutes=options.minutes)
    print(report(tally))
    return 1 if tally.alarms else 0


if __name__ == "__main__":
    sys.exit(main())
