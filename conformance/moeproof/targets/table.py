"""The summary on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from moeproof.architectures import ARCHITECTURES
from moeproof.targets.facts import KernelFacts
from moeproof.targets.report import TargetsReport, constants_text
from moeproof.targets.summary import Summary

_SHOWN = 20
_WIDEST = 1000
_REGISTER_KINDS = ("vector", "accumulation", "scalar")
_LEGEND = (
    "registers: vector registers of a lane, those for accumulation (CDNA) among them; scratch: "
    "bytes of a lane; loads (bytes a lane) and 64-bit integer instructions: in the main loop, or "
    "in all of a kernel that multiplies no matrices in one; work: products done for one asked "
    "for; ahead: matrix instructions from a load to its use; warps: resident, estimated"
)


def print_report(report: TargetsReport) -> None:
    """A row for each kernel and dtype of each target, then what is wrong.

    As wide as its contents, whatever the terminal: cells cut short would say nothing.
    """
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in (
        *("target", "kernel", "dtype", "configs", "registers", "accum.", "scalar", "scratch"),
        *("spills", "shared", "matrix unit", "loads", "64-bit", "work", "ahead", "warps"),
    ):
        table.add_column(heading, no_wrap=True)
    target = ""
    for summary in report.summaries:
        if target and summary.target != target:
            table.add_section()
        table.add_row(*_cells(summary, repeat=summary.target == target))
        target = summary.target
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    console.width = max(console.width, needed)
    console.print(table)
    _plain(console, _LEGEND)
    for facts, wrong in report.broken[:_SHOWN]:
        configuration = facts.configuration
        _plain(console, f"FAIL {configuration.target} {configuration.kernel}: {'; '.join(wrong)}")
        _plain(console, f"  {constants_text(facts)}, first launched by {configuration.problem}")
    for failed in report.failed_calls[:_SHOWN]:
        _plain(console, f"ERROR {failed.target} {failed.problem}: {failed.message}")
    if any(_waits_unchecked(facts) for facts in report.kernels):
        _plain(console, "AMD: waits for memory were not checked; that needs moeproof[amd]")
    hidden = sum(max(0, len(kind) - _SHOWN) for kind in (report.broken, report.failed_calls))
    if hidden:
        _plain(console, f"and {hidden} more")
    _plain(
        console,
        f"{len(report.kernels)} kernels for {len(report.targets)} targets in "
        f"{report.seconds:.0f} s: {len(report.broken)} violate a rule, "
        f"{len(report.failed_calls)} calls failed",
    )


def _waits_unchecked(facts: KernelFacts) -> bool:
    amd = ARCHITECTURES[facts.configuration.target].backend == "hip"
    return amd and facts.missing_waits is None


def _cells(summary: Summary, *, repeat: bool) -> list[str]:
    spills = str(summary.spilling or "")
    if summary.spilling_in_loops:
        spills += f" ({summary.spilling_in_loops} in loops)"
    return [
        "" if repeat else summary.target,
        f"[bold red]{summary.kernel}[/]" if summary.broken else summary.kernel,
        summary.dtype,
        str(summary.configurations),
        *(_range(summary.registers.get(kind, ("", ""))) for kind in _REGISTER_KINDS),
        str(summary.scratch_bytes or ""),
        spills,
        f"{summary.shared_bytes // 1024} of {summary.shared_limit // 1024} KiB",
        ", ".join(summary.matrix_paths),
        ", ".join(summary.loads),
        _range(summary.wide_addresses),
        "" if summary.work is None else _range(tuple(f"{work:.3g}" for work in summary.work)),
        "" if summary.ahead is None else str(summary.ahead),
        f"{_range(summary.warps)} of {summary.most_warps}",
    ]


def _range(ends: tuple[object, ...]) -> str:
    low, high = ends
    return str(low) if low == high else f"{low}-{high}"


def _plain(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
