"""Write the tables of docs/proof.md anew: what the suite catches, and what it lets pass.

    python ci/proof.py faults                          every fault through the quick profile
    python ci/proof.py ablation                        the same without one part of the profile
    python ci/proof.py variants --journal soak.jsonl   what ci/soak.py has counted
    python ci/proof.py blindness                       gross errors before every case's judgement
    python ci/proof.py tolerances                      docs/figures/ordinary_tolerances.py

``faults`` also writes the cases by which the tests catch each fault. It and ``ablation`` judge
every fault in torch by everything once, a quarter of an hour on one core, and keep that in a
journal; edited kernels are judged up to the first catch. Exits with 1 if a fault slips through or
a right implementation is refused.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import ablation
import blindness
import soak

from moeproof.devices import Device
from moeproof.fault_runner import FaultRun
from moeproof.faults import CONTROL, FAULTS
from moeproof.faults.known_catches import KnownCatch, known_catches, write_known_catches
from moeproof.faults.matrix import fault_matrix
from moeproof.planned_case import PlannedCase
from moeproof.profiles import plan
from moeproof.report.fault_matrix import FaultMatrix, FaultResult, as_markdown
from moeproof.report.suite_hash import suite_hash

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "proof.md"
FIGURE = ROOT / "docs" / "figures" / "ordinary_tolerances.py"
FAULT_JOURNAL = Path("fault_journal.jsonl")
SECTIONS = ("faults", "ablation", "blindness", "variants", "tolerances")
_KINDS = {"Experts": "experts", "Router": "router", "Kernels": "kernel"}

# Memory that nobody wrote may hold right values by chance, unless it is poisoned; stale state shows
# at a second call.
_BY_CLASS = {"memory": ("memory",), "stale state": ("determinism", "metamorphic")}


def write_faults(journal: Path) -> int:
    """The fault matrix; how many faults slip through, and in how many kinds right steps do not."""
    planned, cpu = plan("quick", "cpu"), Device("cpu")
    controls = [CONTROL, replace(CONTROL, entry="route")]
    refused = [result for result in fault_matrix(controls, planned, cpu) if result.caught]
    for result in refused:
        print(f"right steps refused: {result.catches[0]}", file=sys.stderr)
    in_torch = [full.result for full in _in_torch(planned, cpu, journal)]
    run = FaultRun(device="cpu", workers=2, timeout_seconds=300.0)
    kernels = [fault for fault in FAULTS.values() if fault.kind == "kernel"]
    order = [fault.name for fault in kernels]
    edited = sorted(
        run.judge(kernels, planned, known=known_catches(planned)),
        key=lambda result: order.index(result.name),
    )
    matrix = FaultMatrix(suite_hash(), "quick", "cpu", (*in_torch, *edited))
    for result in matrix.missed:
        print(f"not caught: {result.name}", file=sys.stderr)
    caught = len(matrix.faults) - len(matrix.missed)
    counts = f"{caught} of {len(matrix.faults)} faults are caught."
    sections = [f"{counts} By the suite `{matrix.suite_hash[:12]}`."]
    for title, kind in _KINDS.items():
        results = [result for result in matrix.results if result.kind == kind]
        sections.append(f"### {title}\n\n{_times(results)}\n\n{as_markdown(results)}".rstrip())
    _replace_section("faults", "\n\n".join(sections))
    write_known_catches(
        {result.name: _catch_alone(result) for result in matrix.faults if result.caught}
    )
    return len(matrix.missed) + len(refused)


def _in_torch(
    planned: Sequence[PlannedCase], device: Device, journal: Path
) -> list[ablation.FullResult]:
    faults = [fault for fault in FAULTS.values() if fault.kind != "kernel"]
    return ablation.full_results(faults, planned, device, journal=journal)


def _times(results: Sequence[FaultResult]) -> str:
    """How long the first catch took; nothing where none was caught."""
    seconds = [result.catches[0].seconds for result in results if result.caught]
    cases = [result.catches[0].cases for result in results if result.caught]
    if not seconds:
        return ""
    return (
        f"First caught after {median(seconds):.2f} s (median) and {max(seconds):.1f} s (most), "
        f"in case {median(cases):.0f} (median) and {max(cases)} (last)."
    )


def _catch_alone(result: FaultResult) -> KnownCatch:
    """The first catch that does not depend on what earlier cases have left behind."""
    preferred = _BY_CLASS.get(result.bug_class, ())
    alone = [catch for catch in result.catches if catch.check in preferred]
    first = (alone or result.catches)[0]
    return KnownCatch(first.check, first.case_id)


def write_ablation(journal: Path) -> int:
    """What would be missed without each part of the profile; nothing of it is a failure."""
    planned = plan("quick", "cpu")
    results = _in_torch(planned, Device("cpu"), journal)
    found = list(ablation.losses(results, planned))
    _replace_section("ablation", ablation_section(found, results, suite=suite_hash()))
    return 0


def ablation_section(
    found: Sequence[ablation.Loss], results: Sequence[ablation.FullResult], *, suite: str
) -> str:
    """The tables, and what they were made from."""
    pairs = sum(len(result.pairs) for result in results)
    spared = len(ablation.redundant(found))
    return (
        f"{len(results)} faults and {pairs:,} pairs that catch them, by the suite `{suite[:12]}`. "
        f"Of {len(found)} parts, {spared} could be spared one at a time without an empty cell.\n\n"
        f"{ablation.as_markdown(found)}"
    )


def write_variants(*journals: Path) -> int:
    """What soaks have counted together; how many false alarms they had."""
    tally = soak.read(*journals)
    _replace_section("variants", soak.report(tally))
    return len(tally.alarms)


def write_blindness() -> int:
    """What each case's judgement refuses; how many blind spots the profiles have."""
    text, blind = blindness.report()
    for spot in blind:
        print(f"blind: {spot}", file=sys.stderr)
    _replace_section("blindness", text)
    return len(blind)


def write_tolerances() -> int:
    """The table beside the figure, and the figure; nothing of it is a failure."""
    script = runpy.run_path(str(FIGURE))
    measured = script["measure"]()
    script["FIGURE"].write_text(script["as_svg"](measured), encoding="utf-8")
    _replace_section("tolerances", script["as_markdown"](measured))
    return 0


def _replace_section(name: str, content: str) -> None:
    """Put content between the document's two comments of this name."""
    text = DOCUMENT.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{DOCUMENT} has no section {start.strip()} .. {end}")
    DOCUMENT.write_text(f"{before}{start}{content.rstrip()}\n{end}{after}", encoding="utf-8")


def main() -> int:
    """Parse the command line and write one section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument(
        "--journal",
        type=Path,
        nargs="+",
        help="default: soak.jsonl or fault_journal.jsonl; of a soak there may be several",
    )
    options = parser.parse_args()
    if options.section != "variants" and len(options.journal or ()) > 1:
        parser.error(f"--journal: {options.section} has one journal, got {len(options.journal)}")
    (fault_journal, *_) = options.journal or (FAULT_JOURNAL,)
    if options.section == "faults":
        failures = write_faults(fault_journal)
    elif options.section == "ablation":
        failures = write_ablation(fault_journal)
    elif options.section == "blindness":
        failures = write_blindness()
    elif options.section == "variants":
        failures = write_variants(*(options.journal or [Path("soak.jsonl")]))
    else:
        failures = write_tolerances()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
