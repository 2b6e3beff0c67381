"""What the quick profile would miss without one of its parts: a check, a pattern, a layout, ...

Every fault made from steps in torch is judged by every check of every case, not only up to its
first catch. That takes a quarter of an hour on one core, so the results go to a journal, and a run
that was cut goes on where it stopped; results of another suite are judged again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moeproof.case import Case
from moeproof.case_id import AnyCase
from moeproof.devices import Device
from moeproof.faults import Fault
from moeproof.faults.matrix import Oracle, asked_here, cases_of, is_catch, result_of
from moeproof.planned_case import PlannedCase
from moeproof.report.fault_matrix import Catch, FaultResult
from moeproof.report.suite_hash import suite_hash

Pair = tuple[str, str]
"""A case's id and a check."""


@dataclass(frozen=True)
class FullResult:
    """A fault's result and all that caught it.

    Attributes:
        result: with the first catch of each check.
        pairs: every case and check that catches it.
    """

    result: FaultResult
    pairs: frozenset[Pair]


@dataclass(frozen=True)
class Part:
    """Something that the profile could be without: its kind, and its name in that kind."""

    kind: str
    name: str


@dataclass(frozen=True)
class Loss:
    """What goes with a part.

    Attributes:
        part: what is left out.
        share: of the profile's pairs of a case and a check.
        slipped: faults that nothing catches any more.
        cells: of the matrix of faults and checks, that are empty then.
        catches: share of all catching pairs that are gone.
    """

    part: Part
    share: float
    slipped: tuple[str, ...]
    cells: int
    catches: float


def full_results(
    faults: Sequence[Fault], planned: Sequence[PlannedCase], device: Device, *, journal: Path
) -> list[FullResult]:
    """Each fault judged by the whole plan, or what the journal holds of it."""
    suite = suite_hash()
    known = {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry["suite"] == suite:
                known[entry["fault"]] = entry
    oracle = Oracle()
    results = []
    for fault in faults:
        if fault.name not in known:
            known[fault.name] = _judge(fault, planned, device, oracle) | {"suite": suite}
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[fault.name]) + "\n")
        results.append(_result(fault, known[fault.name]))
    return results


def _judge(
    fault: Fault, planned: Sequence[PlannedCase], device: Device, oracle: Oracle
) -> dict[str, object]:
    ask = asked_here(fault, device, oracle)
    pairs: list[Pair] = []
    first: dict[str, list[object]] = {}
    seconds, cases = 0.0, 0
    for case, checks in cases_of(fault, planned):
        cases += 1
        for check in checks:
            verdict = ask(case, check)
            seconds += verdict.seconds
            if is_catch(verdict):
                pairs.append((case.case_id, check))
                first.setdefault(check, [case.case_id, verdict.message, cases, seconds])
    return {
        "fault": fault.name, "first": first, "pairs": pairs, "cases": cases, "seconds": seconds
    }  # fmt: skip


def _result(fault: Fault, entry: dict[str, object]) -> FullResult:
    catches = tuple(Catch(check, *first) for check, first in entry["first"].items())  # type: ignore
    result = result_of(fault, catches, entry["cases"], entry["seconds"])  # type: ignore[arg-type]
    return FullResult(result, frozenset((case, check) for case, check in entry["pairs"]))  # type: ignore


def losses(results: Sequence[FullResult], planned: Sequence[PlannedCase]) -> Iterator[Loss]:
    """What each part's absence would cost, part after part."""
    parts: dict[Part, set[Pair]] = defaultdict(set)
    for item in planned:
        for check in item.checks:
            for part in (Part("check", check), *_parts_of(item.case)):
                parts[part].add((item.case.case_id, check))
    everything = {pair for pairs in parts.values() for pair in pairs}
    catches = sum(len(result.pairs) for result in results)
    for part, gone in parts.items():
        slipped, cells, lost = [], 0, 0
        for result in results:
            left = result.pairs - gone
            lost += len(result.pairs) - len(left)
            cells += len({check for _, check in result.pairs}) - len({check for _, check in left})
            if result.pairs and not left:
                slipped.append(result.result.name)
        yield Loss(part, len(gone) / len(everything), tuple(slipped), cells, lost / catches)


def _parts_of(case: AnyCase) -> Iterator[Part]:
    if isinstance(case, Case):
        yield Part("routing pattern", case.pattern.partition(":")[0])
        yield Part("value family", case.values.value)
        yield Part("layout", case.layout.value)
    else:
        yield Part("logit family", case.logits.value)


def as_markdown(found: Sequence[Loss]) -> str:
    """One table a kind of part, the greatest losses first."""
    kinds = dict.fromkeys(loss.part.kind for loss in found)
    sections = []
    for kind in ("check", *(kind for kind in kinds if kind != "check")):
        rows = [loss for loss in found if loss.part.kind == kind]
        rows.sort(key=lambda loss: (-len(loss.slipped), -loss.cells, -loss.catches))
        lines = [
            f"| without the {kind} | of the profile | faults that slip through | cells lost "
            "| catches lost |",
            "|---|--:|---|--:|--:|",
        ]
        for loss in rows:
            names = ", ".join(f"`{name}`" for name in loss.slipped)
            lines.append(
                f"| {loss.part.name} | {loss.share:.1%} | {len(loss.slipped)}"
                f"{': ' if names else ''}{names} | {loss.cells} | {loss.catches:.1%} |"
            )
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def redundant(found: Sequence[Loss]) -> list[Part]:
    """The parts whose absence leaves every cell of the matrix as it is."""
    return [loss.part for loss in found if not loss.slipped and not loss.cells]
