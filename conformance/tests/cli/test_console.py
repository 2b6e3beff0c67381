"""Progress and summary, on a terminal and elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from moeproof import console as console_module
from moeproof.console import RunProgress, print_summary
from moeproof.verdict import Outcome, Verdict

CASE_ID = "T5-H16-I16-E4-K2-bf16/uniform/random/contiguous/"


def verdict(seed: int, outcome: Outcome = Outcome.PASS, message: str = "") -> Verdict:
    case_id = f"{CASE_ID}{seed}"
    reproducer = f"moeproof replay {case_id} --check accuracy --implementation some/long/path.py:f"
    figures = {"max_error_ratio": 0.25 * seed}
    return Verdict(case_id, "accuracy", outcome, message, figures, None, {}, 0.5, reproducer)


def printed(verdicts: list[Verdict]) -> str:
    file = io.StringIO()
    print_summary(verdicts, seconds=4.0, console=Console(file=file, width=80))
    return file.getvalue()


def test_the_summary_counts_outcomes_and_speed() -> None:
    text = printed([verdict(1), verdict(2), verdict(3, Outcome.UNSUPPORTED, "no bf16")])
    row = next(line for line in text.splitlines() if "accuracy" in line)
    assert row.replace("│", " ").split() == ["accuracy", "2", "0", "0", "1", "0.75", "0.50", "s"]
    assert "3 verdicts, 3 cases in 4.0 s: 0.8 cases per second" in text
    assert "  1 x no bf16\n" in text


def test_reproducers_are_whole_lines_even_where_the_terminal_is_narrow() -> None:
    failure = verdict(7, Outcome.FAIL, "[bold]token 3[/bold] is off " + "very " * 30)
    lines = printed([verdict(1), failure]).splitlines()
    assert f"  {failure.reproducer}" in lines
    assert f"  {failure.message}" in lines


def test_checks_of_one_case_that_say_the_same_are_told_once() -> None:
    failures = [verdict(7, Outcome.ERROR, "the device is gone") for _ in range(3)]
    text = printed(failures)
    assert text.count("the device is gone") == 1
    assert f"ERROR accuracy, accuracy, accuracy  {CASE_ID}7" in text


def test_many_failures_are_cut_and_counted() -> None:
    text = printed([verdict(seed, Outcome.FAIL, f"wrong {seed}") for seed in range(25)])
    assert text.count("moeproof replay") == 10
    assert "and 15 more that are FAIL or ERROR" in text


def test_what_many_failures_have_in_common_is_told() -> None:
    """Fifteen batches of 33 tokens whose two experts take all, beside even ones that are right."""

    def case(pattern: str, seed: int, outcome: Outcome) -> Verdict:
        case_id = f"T33-H16-I16-E8-K2-bf16/{pattern}/random/contiguous/{seed}"
        return replace(verdict(seed, outcome, f"wrong {seed}"), case_id=case_id)

    wrong = [case("same_experts", seed, Outcome.FAIL) for seed in range(15)]
    right = [case("round_robin", seed, Outcome.PASS) for seed in range(15)]
    lines = printed([*wrong, *right]).splitlines()
    assert lines[-3:] == [
        "and 5 more that are FAIL or ERROR",
        "what failures have in common, and how many verdicts with it are failures:",
        "  fullest expert over 16 rows yes: 15 of 15",
    ]
    assert printed([*wrong[:10], *right]).splitlines()[-1].startswith("  moeproof replay")


def test_without_a_terminal_progress_is_a_line_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(0, 1000))
    monkeypatch.setattr(console_module.time, "monotonic", lambda: float(next(clock)))
    file = io.StringIO()
    with RunProgress(20, Console(file=file)) as progress:
        for seed in range(20):
            progress.advance(verdict(seed, Outcome.FAIL if seed == 3 else Outcome.PASS))
    assert file.getvalue().splitlines() == [
        "judged 5 of 20, 1 FAIL",
        "judged 10 of 20, 1 FAIL",
        "judged 15 of 20, 1 FAIL",
        "judged 20 of 20, 1 FAIL",
    ]


def test_on_a_terminal_progress_is_a_bar_that_leaves_no_trace() -> None:
    file = io.StringIO()
    with RunProgress(2, Console(file=file, force_terminal=True, width=100)) as progress:
        progress.advance(verdict(1))
        progress.advance(verdict(2, Outcome.FAIL))
    assert "judging" in file.getvalue()
    assert "judged" not in file.getvalue()
