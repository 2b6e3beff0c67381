"""A report's lines: from values to what JSON can hold, and back, exactly.

JSON has no NaN and no infinities. Wherever a number stands they are written as the strings
``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, as in Protocol Buffers' JSON mapping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from numbers import Integral, Real
from typing import Any

from moeproof.report.metadata import Package, RunMetadata
from moeproof.report.report import SCHEMA_VERSION, Footer, Header, Shard
from moeproof.rounding_conclusion import RoundingConclusion
from moeproof.verdict import Outcome, Verdict, WorstElement

Line = dict[str, Any]

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def header_line(header: Header) -> Line:
    """The header as a line."""
    return {"kind": "header", "schema_version": SCHEMA_VERSION, **asdict(header)}


def verdict_line(verdict: Verdict) -> Line:
    """A verdict as a line.

    Raises:
        TypeError, ValueError: its evidence holds what a line cannot.
    """
    return {
        "kind": "verdict",
        "case_id": verdict.case_id,
        "check": verdict.check,
        "verdict": verdict.outcome.value,
        "message": verdict.message,
        "figures": encode(verdict.figures),
        "worst": None if verdict.worst is None else encode(asdict(verdict.worst)),
        "evidence": encode(verdict.evidence),
        "seconds": verdict.seconds,
        "reproducer": verdict.reproducer,
    }


def footer_line(footer: Footer) -> Line:
    """The footer as a line."""
    return {
        "kind": "footer",
        "counts": {outcome.value: footer.counts[outcome] for outcome in Outcome},
        "verdicts": footer.verdicts,
        "seconds": footer.seconds,
        "rounding": [
            {"verdict": conclusion.outcome.value, **asdict(conclusion)}
            for conclusion in footer.rounding
        ],
    }


def header_from_line(line: Line) -> Header:
    """The header of a line that fits the schema."""
    metadata = line["metadata"]
    packages = tuple(Package(**package) for package in metadata["packages"])
    shard = line["shard"]
    return Header(
        metadata=RunMetadata(**{**metadata, "packages": packages}),
        planned_cases=line["planned_cases"],
        planned_verdicts=line["planned_verdicts"],
        plan_digest=line["plan_digest"],
        questions=line["questions"],
        started_at=line["started_at"],
        shard=None if shard is None else Shard(**shard),
    )


def verdict_from_line(line: Line) -> Verdict:
    """The verdict of a line that fits the schema. Evidence comes back with lists for tuples."""
    worst = line["worst"]
    if worst is not None:
        worst = WorstElement(**{**decode(worst), "experts": tuple(worst["experts"])})
    return Verdict(
        case_id=line["case_id"],
        check=line["check"],
        outcome=Outcome(line["verdict"]),
        message=line["message"],
        figures=decode(line["figures"]),
        worst=worst,
        evidence=decode(line["evidence"]),
        seconds=line["seconds"],
        reproducer=line["reproducer"],
    )


def footer_from_line(line: Line) -> Footer:
    """The footer of a line that fits the schema."""
    counts = {outcome: line["counts"][outcome.value] for outcome in Outcome}
    rounding = tuple(_conclusion_from_line(conclusion) for conclusion in line["rounding"])
    return Footer(counts, line["verdicts"], line["seconds"], rounding)


def _conclusion_from_line(line: Line) -> RoundingConclusion:
    return RoundingConclusion(
        dtype=line["dtype"],
        declared=line["declared"],
        cases=line["cases"],
        surviving=tuple(line["surviving"]),
        conflict=tuple(line["conflict"]),
        reproducer=line["reproducer"],
    )


def encode(value: Any) -> Any:
    """Plain data as JSON can hold it; numpy's scalars count as numbers.

    Raises:
        TypeError: something else than numbers, strings, booleans, None, sequences and mappings
            from strings.
        ValueError: a string that would be read back as a number that is not finite.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value in _NON_FINITE:
            raise ValueError(f"the string {value!r} stands for a number in a report")
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else _name_of(number)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be strings in a report, got {list(value)!r}")
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    raise TypeError(f"a report cannot hold a {type(value).__name__}: {value!r}")


def decode(value: Any) -> Any:
    """What :func:`encode` was given, with lists for tuples."""
    if isinstance(value, str):
        return _NON_FINITE.get(value, value)
    if isinstance(value, dict):
        return {key: decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return value


def _name_of(number: float) -> str:
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"
