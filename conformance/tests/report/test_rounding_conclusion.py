"""What all cases together say of the rounding stands in every form of a report."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from moeproof.commands.judging import exit_code
from moeproof.console import print_summary
from moeproof.report import Report, ReportError, read_report, render_html, render_junit
from moeproof.rounding_conclusion import conclude
from moeproof.verdict import Outcome, Verdict

CASES = [f"T{tokens}-H64-I48-E8-K2-bf16/uniform/random/contiguous/1" for tokens in (3, 17, 33)]
A, B, C = "intermediate=yes", "silu=yes", "gate_up=yes"


def verdicts_of(*surviving: Sequence[str], declared: str | None = None) -> list[Verdict]:
    return [
        Verdict(
            case_id=case_id,
            check="rounding",
            outcome=Outcome.PASS if names else Outcome.FAIL,
            message="" if names else "no rounding profile fits",
            figures={},
            worst=None,
            evidence={"dtype": "bf16", "declared": declared, "surviving": list(names)},
            seconds=0.1,
            reproducer=(
                f"moeproof replay {case_id} --check rounding --implementation mine --device cpu"
            ),
        )
        for case_id, names in zip(CASES, surviving, strict=True)
    ]


RIGHT = verdicts_of([A, B], [A, B, C], [A])
WRONG = verdicts_of([A, B], [A, C], [B, C])
"""Each pair has a profile in common; all three have none."""

Write = Callable[[Sequence[Verdict]], Path]


def printed(verdicts: Sequence[Verdict]) -> str:
    file = io.StringIO()
    print_summary(verdicts, seconds=1.0, console=Console(file=file, width=200))
    return file.getvalue()


def test_the_profiles_of_all_cases_are_left() -> None:
    (conclusion,) = conclude(RIGHT)
    assert (conclusion.outcome, conclusion.surviving) == (Outcome.PASS, (A,))
    assert conclusion.message == f"{A} fits all 3 cases"
    assert conclude(reversed(RIGHT)) == (conclusion,)


def test_none_left_is_a_failure_with_the_cases_that_contradict_each_other() -> None:
    (conclusion,) = conclude(WRONG)
    assert (conclusion.outcome, conclusion.surviving) == (Outcome.FAIL, ())
    assert sorted(conclusion.conflict) == sorted(CASES)
    assert conclusion.reproducer.startswith("moeproof run --case T17-H64-I48-E8-K2-bf16")
    assert conclusion.reproducer.endswith(" --implementation mine --device cpu")


def test_one_case_that_none_fits_is_conflict_enough() -> None:
    (conclusion,) = conclude(verdicts_of([A], [], [B]))
    assert conclusion.conflict == (CASES[1],)


def test_a_declared_profile_is_named() -> None:
    assert "declared rounding profile silu=yes fits all 3 cases" in (
        conclude(verdicts_of([B], [B], [B], declared=B))[0].message
    )
    assert "declared rounding profile silu=yes does not fit" in (
        conclude(verdicts_of([B], [], [B], declared=B))[0].message
    )


def test_the_exit_code_and_the_console_say_it() -> None:
    assert exit_code(RIGHT) == 0
    assert f"rounding in bf16: {A} fits all 3 cases" in printed(RIGHT)
    assert exit_code(WRONG) == 1
    assert "FAIL rounding  all bf16 cases together" in printed(WRONG)
    assert conclude(WRONG)[0].reproducer in printed(WRONG)


def test_the_footer_is_read_back(write_report: Write) -> None:
    for verdicts in (RIGHT, WRONG):
        assert read_report(write_report(verdicts)).footer.rounding == conclude(verdicts)


def test_a_footer_that_does_not_follow_is_refused(write_report: Write) -> None:
    path = write_report(RIGHT)
    *lines, last = path.read_text().splitlines()
    footer = json.loads(last)
    footer["rounding"][0]["surviving"] = [B]
    path.write_text("\n".join([*lines, json.dumps(footer)]) + "\n")
    with pytest.raises(ReportError, match="do not follow from the verdicts"):
        read_report(path)


def test_the_page_says_it(make_report: Callable[[Sequence[Verdict]], Report]) -> None:
    page = render_html(make_report(RIGHT))
    assert "Rounding profiles" in page
    assert f"<code>{A}</code>" in page
    assert "Does not conform" not in page
    page = render_html(make_report(WRONG))
    assert "Does not conform" in page
    assert "no rounding profile explains all cases in bf16" in page
    assert "moeproof run --case" in page
    assert "Rounding profiles" not in render_html(make_report([replace(RIGHT[0], evidence={})]))


def test_junit_counts_it(make_report: Callable[[Sequence[Verdict]], Report]) -> None:
    root = ElementTree.fromstring(render_junit(make_report(WRONG)))
    assert (root.attrib["tests"], root.attrib["failures"]) == ("4", "1")
    (failed,) = (case for case in root.iter("testcase") if case.find("failure") is not None)
    assert failed.attrib["name"] == "all bf16 cases together"
    root = ElementTree.fromstring(render_junit(make_report(RIGHT)))
    assert (root.attrib["tests"], root.attrib["failures"]) == ("4", "0")
