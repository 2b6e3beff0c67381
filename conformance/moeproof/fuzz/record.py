"""What is kept of a fuzzing run: ``fuzz.json``, and each failure as a regression's file."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path

from moeproof.fuzz.fuzzer import FuzzResult
from moeproof.fuzz.hunt import HuntPlan
from moeproof.fuzz.tally import Tally
from moeproof.regressions import Regression
from moeproof.report import write_whole
from moeproof.verdict import Verdict
from moeproof.worker_messages import Subject


def keep_failures(result: FuzzResult, subject: Subject, folder: Path) -> list[Path]:
    """Write each failure that is not there yet into a folder of regressions; return the new files.

    A failure that needs other calls before it is no case that could be judged by itself.
    """
    new = []
    for failure in result.failures:
        regression = _regression(failure.verdict, subject)
        path = folder / regression.file_name
        if failure.only_after == () and not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, regression.to_json())
            new.append(path)
    return new


def write_summary(result: FuzzResult, plan: HuntPlan, path: Path) -> None:
    """Write ``fuzz.json``."""
    content = {
        "profile": plan.profile.name,
        "seed": plan.seed,
        "tally": _tally(result.tally),
        "failures": [
            {
                "case_id": failure.verdict.case_id,
                "check": failure.verdict.check,
                "outcome": failure.verdict.outcome.value,
                "message": failure.verdict.message,
                "found_as": failure.found_as,
                "only_after": failure.only_after,
                "reproducer": failure.reproducer(plan.subject),
            }
            for failure in result.failures
        ],
        "metadata": asdict(result.metadata),
    }
    write_whole(path, json.dumps(content, indent=2) + "\n")


def _tally(tally: Tally) -> dict[str, object]:
    return {**asdict(tally), "cases_per_second": round(tally.cases_per_second, 2)}


def _regression(verdict: Verdict, subject: Subject) -> Regression:
    return Regression(
        case_id=verdict.case_id,
        check=verdict.check,
        outcome=verdict.outcome.value,
        what_was_wrong=verdict.message,
        implementation=subject.implementation,
        device=subject.device,
        found_on=date.today().isoformat(),
    )
