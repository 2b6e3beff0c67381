"""What is kept of a fuzzing run: ``fuzz.json``, and each failure as a regression's file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import date
from pathlib import Path

from moeproof.fuzz.fuzzer import FuzzResult
from moeproof.fuzz.hunt import HuntPlan
from moeproof.fuzz.tally import Failure, Tally
from moeproof.regressions import Regression
from moeproof.report import write_whole
from moeproof.worker_messages import Subject


def keep_result(result: FuzzResult, plan: HuntPlan, folder: Path) -> list[Path]:
    """Write the files into an existing folder; the regressions' files are returned."""
    paths = []
    for regression in _regressions(result.failures, plan.subject):
        (folder / "regressions").mkdir(exist_ok=True)
        paths.append(folder / "regressions" / regression.file_name)
        write_whole(paths[-1], regression.to_json())
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
    write_whole(folder / "fuzz.json", json.dumps(content, indent=2) + "\n")
    return paths


def _tally(tally: Tally) -> dict[str, object]:
    return {**asdict(tally), "cases_per_second": round(tally.cases_per_second, 2)}


def _regressions(failures: Iterable[Failure], subject: Subject) -> Iterable[Regression]:
    """A failure that needs other calls before it is no case that could be judged by itself."""
    for failure in failures:
        if failure.only_after == ():
            yield Regression(
                case_id=failure.verdict.case_id,
                check=failure.verdict.check,
                outcome=failure.verdict.outcome.value,
                what_was_wrong=failure.verdict.message,
                implementation=subject.implementation,
                device=subject.device,
                found_on=date.today().isoformat(),
            )
