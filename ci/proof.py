"""Write the tables of docs/proof.md anew: what the suite catches, and what it lets pass.

    python ci/proof.py faults                          every fault through the quick profile
    python ci/proof.py variants --journal soak.jsonl   what ci/soak.py has counted
    python ci/proof.py tolerances                      docs/figures/ordinary_tolerances.py

``faults`` also writes the cases by which the tests catch each fault. Takes minutes on one core;
exits with 1 if a fault slips through or a right implementation is refused.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import soak

from moeproof.devices import Device
from moeproof.faults import CONTROL, FAULTS
from moeproof.faults.matrix import Catch, FaultResult, as_markdown, fault_matrix
from moeproof.profiles import plan

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "proof.md"
FIGURE = ROOT / "docs" / "figures" / "ordinary_tolerances.py"
CATCHING_CASES = ROOT / "conformance" / "tests" / "faults" / "catching_cases.json"

# Memory that nobody wrote may hold right values by chance, unless it is poisoned; stale state shows
# at a second call.
_BY_CLASS = {"memory": ("memory",), "stale state": ("determinism", "metamorphic")}


def write_faults() -> int:
    """The fault matrix; how many faults slip through, and in how many kinds right steps do not."""
    planned, cpu = plan("quick", "cpu"), Device("cpu")
    controls = [CONTROL, replace(CONTROL, entry="route")]
    refused = [result for result in fault_matrix(controls, planned, cpu) if result.caught]
    in_torch = [fault for fault in FAULTS.values() if fault.kind != "kernel"]
    results = list(fault_matrix(in_torch, planned, cpu))
    missed = [result for result in results if not result.caught]
    for result in refused:
        print(f"right steps refused: {result.catches[0]}", file=sys.stderr)
    for result in missed:
        print(f"not caught: {result.fault.name}", file=sys.stderr)
    experts, router = (
        as_markdown([result for result in results if result.fault.kind == kind])
        for kind in ("experts", "router")
    )
    counts = f"{len(results) - len(missed)} of {len(results)} faults are caught."
    _replace_section("faults", f"{counts}\n\n### Experts\n\n{experts}\n### Router\n\n{router}")
    _write_catching_cases(results)
    return len(missed) + len(refused)


def _write_catching_cases(results: Sequence[FaultResult]) -> None:
    catches = {result.fault.name: _catch_alone(result) for result in results if result.caught}
    caught = {
        name: {"check": catch.check, "case_id": catch.case_id} for name, catch in catches.items()
    }
    CATCHING_CASES.write_text(json.dumps(caught, indent=1) + "\n", encoding="utf-8")


def _catch_alone(result: FaultResult) -> Catch:
    """The first catch that does not depend on what earlier cases have left behind."""
    preferred = _BY_CLASS.get(result.fault.bug_class, ())
    alone = [catch for catch in result.catches if catch.check in preferred]
    return (alone or result.catches)[0]


def write_variants(journal: Path) -> int:
    """What a soak has counted; how many false alarms it had."""
    tally = soak.read(journal)
    _replace_section("variants", soak.report(tally))
    return len(tally.alarms)


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
    parser.add_argument("section", choices=("faults", "variants", "tolerances"))
    parser.add_argument("--journal", type=Path, default=Path("soak.jsonl"))
    options = parser.parse_args()
    if options.section == "faults":
        failures = write_faults()
    elif options.section == "variants":
        failures = write_variants(options.journal)
    else:
        failures = write_tolerances()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
