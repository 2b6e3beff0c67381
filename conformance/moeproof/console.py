"""What a run shows on the terminal: progress while it goes, a summary at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from moeproof.report.page.suspects import suspects
from moeproof.report.page.traits import Judged, read_traits
from moeproof.rounding_conclusion import RoundingConclusion, conclude
from moeproof.verdict import Outcome, Verdict

_SECONDS_BETWEEN_LINES = 5.0
_FAILURES_SHOWN = 10
_SUSPECTS_SHOWN = 3
_STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.ERROR: "bold magenta",
    Outcome.UNSUPPORTED: "yellow",
}


def print_warnings(warnings: Sequence[str]) -> None:
    """A line each, on standard error."""
    console = Console(stderr=True)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)


class RunProgress:
    """A bar on a terminal; elsewhere a line every few seconds. Use as a context manager."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self._console = console or Console()
        self._total = total
        self._counts: Counter[Outcome] = Counter()
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("judging"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=total)

    def advance(self, verdict: Verdict) -> None:
        """Count one verdict."""
        self._counts[verdict.outcome] += 1
        self._bar.update(self._task, advance=1, description=self._bad())
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            done = self._counts.total()
            words = ", ".join(filter(None, [f"judged {done} of {self._total}", self._bad()]))
            self._console.print(words, highlight=False)

    def _bad(self) -> str:
        shown = [
            f"{self._counts[outcome]} {outcome.value}"
            for outcome in (Outcome.FAIL, Outcome.ERROR)
            if self._counts[outcome]
        ]
        return ", ".join(shown)

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


def print_summary(
    verdicts: Sequence[Verdict], *, seconds: float, console: Console | None = None
) -> None:
    """Counts by check and outcome, what was not claimed, and every failure's reproducer."""
    console = console or Console()
    console.print(_table(verdicts))
    cases = len({verdict.case_id for verdict in verdicts})
    _plain(
        console,
        f"{len(verdicts)} verdicts, {cases} case{'s' * (cases != 1)} in {seconds:.1f} s: "
        f"{cases / seconds:.1f} cases per second",
    )
    slowest = max(verdicts, key=lambda verdict: verdict.seconds)
    _plain(console, f"slowest: {slowest.check} of {slowest.case_id}, {slowest.seconds:.2f} s")
    _print_unsupported(console, verdicts)
    conclusions = conclude(verdicts)
    _print_rounding(console, conclusions)
    _print_failures(console, [*verdicts, *(each.as_verdict() for each in conclusions)])


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table("check")
    for outcome in Outcome:
        table.add_column(outcome.value, justify="right")
    table.add_column("max error:bound", justify="right")
    table.add_column("slowest", justify="right")
    for check in dict.fromkeys(verdict.check for verdict in verdicts):
        table.add_row(check, *_row([verdict for verdict in verdicts if verdict.check == check]))
    table.add_section()
    table.add_row("all", *_row(verdicts))
    return table


def _row(verdicts: Sequence[Verdict]) -> list[str]:
    counts = Counter(verdict.outcome for verdict in verdicts)
    cells = [
        f"[{_STYLES[outcome]}]{counts[outcome]}[/]" if counts[outcome] else "0"
        for outcome in Outcome
    ]
    ratios = [
        verdict.figures["max_error_ratio"]
        for verdict in verdicts
        if "max_error_ratio" in verdict.figures
    ]
    cells.append(f"{max(ratios):.3g}" if ratios else "")
    cells.append(f"{max(verdict.seconds for verdict in verdicts):.2f} s")
    return cells


def _print_unsupported(console: Console, verdicts: Sequence[Verdict]) -> None:
    reasons = Counter(
        verdict.message for verdict in verdicts if verdict.outcome is Outcome.UNSUPPORTED
    )
    if reasons:
        _plain(console, "not judged, as the implementation does not claim it:")
    for reason, count in reasons.most_common():
        _plain(console, f"  {count} x {reason}")


def _print_rounding(console: Console, conclusions: Sequence[RoundingConclusion]) -> None:
    """What was inferred, or that the declared profile was kept; failures come further down."""
    for conclusion in conclusions:
        if conclusion.outcome is Outcome.PASS:
            _plain(console, f"rounding in {conclusion.dtype}: {conclusion.message}")


def _print_failures(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Each with its reproducer; checks of one case that say the same are told once."""
    bad = [verdict for verdict in verdicts if verdict.outcome in (Outcome.FAIL, Outcome.ERROR)]
    alike: dict[tuple[str, Outcome, str], list[Verdict]] = {}
    for verdict in bad:
        key = (verdict.case_id, verdict.outcome, verdict.message)
        alike.setdefault(key, []).append(verdict)
    groups = list(alike.items())
    for (case_id, outcome, message), group in groups[:_FAILURES_SHOWN]:
        console.print(f"\n[{_STYLES[outcome]}]{outcome.value}[/] ", end="")
        _plain(console, f"{', '.join(verdict.check for verdict in group)}  {case_id}")
        _plain(console, f"  {message}")
        _plain(console, f"  {group[0].reproducer}")
    hidden = sum(len(group) for _, group in groups[_FAILURES_SHOWN:])
    if hidden:
        _plain(console, f"\nand {hidden} more that are FAIL or ERROR")
        _print_common_traits(console, verdicts)


def _print_common_traits(console: Console, verdicts: Sequence[Verdict]) -> None:
    """As the page says it: each line is about what no line before accounts for."""
    found = suspects([Judged(verdict, read_traits(verdict.case_id)) for verdict in verdicts])
    if found:
        _plain(console, "what failures have in common, and how many verdicts with it are failures:")
    for suspect in found[:_SUSPECTS_SHOWN]:
        traits = " and ".join(f"{name} {value}" for name, value in suspect.traits)
        _plain(console, f"  {traits}: {suspect.broken} of {suspect.judged}")


def _plain(console: Console, text: str) -> None:
    """A line as it is: never wrapped, so that a command can be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
