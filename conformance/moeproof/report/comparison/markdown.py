"""A comparison as markdown, short enough for a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moeproof.report.comparison.comparison import Comparison, ErrorGroup
from moeproof.report.comparison.error_class import BIAS_BAND, RATIO_BAND
from moeproof.report.report import Report
from moeproof.report.text import printable

_LONGEST_LIST = 20


def render_comparison_markdown(comparison: Comparison) -> str:
    """The result, what differs, the errors by dtype and the largest changes."""
    parts = [
        f"## moeproof: {comparison.headline.lower()}",
        f"- A: {name_of(comparison.first)}\n- B: {name_of(comparison.second)}",
        comparison.extent,
    ]
    if comparison.findings:
        parts.append(_listed(comparison.findings))
    parts += [_errors(comparison), _changes(comparison), _worst_rows(comparison)]
    parts.append(_metadata(comparison))
    return printable("\n\n".join(part for part in parts if part) + "\n")


def name_of(report: Report) -> str:
    """The implementation, its version, and where it ran."""
    metadata = report.metadata
    version = f" {metadata.implementation_version}" if metadata.implementation_version else ""
    described = metadata.device_description
    where = [described[name] for name in ("name", "architecture") if name in described]
    return f"{metadata.implementation}{version} on {metadata.device}: {', '.join(where)}"


def _errors(comparison: Comparison) -> str:
    differing = [group for group in comparison.groups if group.differs]
    groups = [*comparison.dtypes, *differing[:_LONGEST_LIST]]
    if not groups:
        return ""
    table = _table(
        ("accuracy", "outputs", "RMS of B / of A", "bias A", "bias B", "equal bits", ""),
        (_error_row(group) for group in groups),
    )
    return (
        f"{table}\n\n90% intervals; one class within {list(RATIO_BAND)}, and within "
        f"{list(BIAS_BAND)} of each other's bias (in units of the RMS; below 0 is towards zero)."
    )


def _error_row(group: ErrorGroup) -> tuple[str, ...]:
    errors = group.errors
    result = "shown only" if not group.is_judged else "differs" if group.differs else "one class"
    return (
        group.name,
        f"{errors.outputs:,}",
        str(errors.ratio),
        f"{errors.first_bias:+.3f}",
        f"{errors.second_bias:+.3f}",
        f"{group.equal_bits:.1%}",
        result,
    )


def _changes(comparison: Comparison) -> str:
    if not comparison.changes:
        return ""
    rows = (
        (
            change.place,
            f"{change.before} → {change.after}",
            f"{change.changed} of {change.of}",
            f"`{change.case_id}`",
            change.message[:200],
        )
        for change in comparison.changes[:_LONGEST_LIST]
    )
    headings = ("check, dtype, values", "verdict", "cases", "first", "what was said of it")
    return f"### Verdicts that changed\n\n{_table(headings, rows)}"


def _worst_rows(comparison: Comparison) -> str:
    if not comparison.worst_rows:
        return ""
    rows = (
        (
            f"`{row.case_id}`",
            f"{row.first_ratio:.3g} (token {row.first_token})",
            f"{row.second_ratio:.3g} (token {row.second_token})",
        )
        for row in comparison.worst_rows[:5]
    )
    table = _table(("case", "error:bound A", "error:bound B"), rows)
    return f"<details><summary>Rows that changed most</summary>\n\n{table}\n\n</details>"


def _metadata(comparison: Comparison) -> str:
    if not comparison.metadata_differences:
        return ""
    rows = ((item.field, item.first, item.second) for item in comparison.metadata_differences)
    table = _table(("made with", "A", "B"), rows)
    return f"<details><summary>In what the runs differ</summary>\n\n{table}\n\n</details>"


def _listed(items: Sequence[str]) -> str:
    lines = [f"- {item}" for item in items[:_LONGEST_LIST]]
    if len(items) > _LONGEST_LIST:
        lines.append(f"- and {len(items) - _LONGEST_LIST} more")
    return "\n".join(lines)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
