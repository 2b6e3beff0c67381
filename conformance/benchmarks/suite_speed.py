"""How fast the suite is: ``python conformance/benchmarks/suite_speed.py torch_eager moe_dispatch``.

Runs the quick profile on the CPU with two workers for each implementation named, and prints wall
time, cases per second and where the workers' time goes. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from moeproof.report import read_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("implementations", nargs="+")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    for implementation in options.implementations:
        with tempfile.TemporaryDirectory() as folder:
            seconds = _run(implementation, options.profile, options.workers, Path(folder))
            print(_summary(implementation, Path(folder) / "report.jsonl", seconds), flush=True)


def _run(implementation: str, profile: str, workers: int, folder: Path) -> float:
    """Wall seconds of one ``moeproof run``, imports and report included."""
    command = [
        Path(sys.executable).with_name("moeproof"),
        "run",
        "--implementation",
        implementation,
        "--device",
        "cpu",
        "--profile",
        profile,
        "-n",
        str(workers),
        "--report",
        folder,
    ]
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started


def _summary(implementation: str, path: Path, seconds: float) -> str:
    report = read_report(path)
    cases = len({verdict.case_id for verdict in report.verdicts})
    by_check: Counter[str] = Counter()
    for verdict in report.verdicts:
        by_check[verdict.check] += verdict.seconds
    outcomes = Counter(verdict.outcome.value for verdict in report.verdicts)
    total = sum(by_check.values())
    where = ", ".join(f"{name} {spent / total:.0%}" for name, spent in by_check.most_common())
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    return (
        f"{implementation}: {cases} cases in {seconds:.1f} s, {cases / seconds:.1f} a second "
        f"({counts})\n  workers' time: {where}"
    )


if __name__ == "__main__":
    main()
