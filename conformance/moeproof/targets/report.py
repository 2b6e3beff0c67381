"""What was compiled, as a value, as ``targets.jsonl`` and as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from moeproof.report.html import template_environment
from moeproof.report.text import printable
from moeproof.targets.facts import FailedCall, KernelFacts
from moeproof.targets.rules import violations
from moeproof.targets.summary import Summary, summarize

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TargetsReport:
    """All kernels of an implementation, compiled for several targets.

    Attributes:
        implementation: the reference that the user gave.
        implementation_version: as the implementation says it.
        triton: version that compiled.
        suite_version: of moeproof.
        targets, dtypes: what was asked for.
        started_at: ISO 8601, in UTC. seconds: wall time.
        kernels: each compiled configuration.
        failed_calls: calls of the implementation that raised, took too long or crashed.
    """

    implementation: str
    implementation_version: str
    triton: str
    suite_version: str
    targets: tuple[str, ...]
    dtypes: tuple[str, ...]
    started_at: str
    seconds: float
    kernels: tuple[KernelFacts, ...]
    failed_calls: tuple[FailedCall, ...]

    @cached_property
    def summaries(self) -> list[Summary]:
        """One for each kernel and dtype of each target."""
        return summarize(self.kernels)

    @cached_property
    def broken(self) -> list[tuple[KernelFacts, tuple[str, ...]]]:
        """The kernels that violate rules, with what is wrong."""
        found = ((facts, violations(facts)) for facts in self.kernels)
        return [(facts, wrong) for facts, wrong in found if wrong]

    @property
    def passed(self) -> bool:
        """Every target got kernels, no call failed and no rule is violated."""
        compiled = {facts.configuration.target for facts in self.kernels}
        return compiled == set(self.targets) and not self.failed_calls and not self.broken


def targets_text(report: TargetsReport) -> str:
    """``targets.jsonl``: one JSON object a line."""
    return "".join(f"{json.dumps(line, allow_nan=False)}\n" for line in _lines(report))


def render_targets(report: TargetsReport) -> str:
    """``targets.html``: a page that loads nothing."""
    environment = template_environment()
    environment.filters.update(counts=counts_text, constants=constants_text)
    return printable(environment.get_template("targets.html.j2").render(report=report))


def _lines(report: TargetsReport) -> Iterator[dict[str, Any]]:
    """A header, a line for each kernel and failed call, a footer with the sums."""
    yield {
        "kind": "header",
        "schema_version": SCHEMA_VERSION,
        **{
            name: getattr(report, name)
            for name in (
                *("implementation", "implementation_version", "triton", "suite_version"),
                *("targets", "dtypes", "started_at"),
            )
        },
    }
    for facts in report.kernels:
        yield {"kind": "kernel", **_plain(asdict(facts)), "violations": violations(facts)}
    for failed in report.failed_calls:
        yield {"kind": "failed_call", **asdict(failed)}
    yield {
        "kind": "footer",
        "kernels": len(report.kernels),
        "broken": len(report.broken),
        "failed_calls": len(report.failed_calls),
        "seconds": round(report.seconds, 1),
    }


def _plain(value: Any) -> Any:
    """JSON's keys are strings: loads are told as ``cp.async 16``."""
    if isinstance(value, dict):
        return {
            _name(key) if isinstance(key, tuple) else key: _plain(inner)
            for key, inner in value.items()
        }
    return value


def counts_text(counts: Mapping[Any, int]) -> str:
    """``16 x cp.async 16, 2 x TMA``: instructions by kind, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} x {_name(key)}" for key, count in ordered)


def constants_text(facts: KernelFacts) -> str:
    """The compile-time arguments by which a user tells configurations apart, and the options."""
    configuration = facts.configuration
    shown = [
        f"{name}={value}"
        for name, value in configuration.constants.items()
        if name.isupper() and value is not None
    ]
    return " ".join(
        (*shown, f"num_warps={configuration.num_warps}", f"num_stages={configuration.num_stages}")
    )


def _name(key: object) -> str:
    if isinstance(key, tuple):
        kind, width = key
        return f"{kind} {width}" if width else str(kind)
    return str(key)
