"""What a case id says about its case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from moeproof.case import UnwrittenMemory
from moeproof.problem import Problem
from moeproof.report.report import Report
from moeproof.router_case import RouterProblem
from moeproof.verdict import Outcome, Verdict

BROKEN = frozenset({Outcome.FAIL, Outcome.ERROR})
_LONGEST_ARGUMENT = 40


@dataclass(frozen=True)
class Traits:
    """What a case id says.

    Attributes:
        target: ``experts`` or ``router``; ``other`` if the id cannot be read, as it may be in a
            report of another version of the suite.
        named: trait -> value, such as ``layout`` -> ``offset`` and ``E`` -> ``8``.
        sizes: the problem's sizes, for sorting.
        work: multiplications, roughly: the smaller, the easier to debug.
    """

    target: str
    named: Mapping[str, str]
    sizes: tuple[int, ...] = ()
    work: int = 0


@dataclass(frozen=True)
class Judged:
    """A verdict beside the traits of its case."""

    verdict: Verdict
    traits: Traits

    @property
    def broken(self) -> bool:
        """The implementation is wrong or crashed."""
        return self.verdict.outcome in BROKEN


def judged_verdicts(report: Report) -> list[Judged]:
    """The report's verdicts, in order."""
    return [Judged(verdict, read_traits(verdict.case_id)) for verdict in report.verdicts]


@cache
def read_traits(case_id: str) -> Traits:
    """The traits of a case; any text is read, and what cannot be is ``other``."""
    parts = case_id.split("/")
    try:
        if case_id.startswith("route-") and len(parts) == 3:
            return _router_traits(RouterProblem.parse(parts[0]), logits=parts[1])
        if len(parts) in (5, 6):
            return _expert_traits(Problem.parse(parts[0]), parts)
    except ValueError:
        pass
    return Traits("other", {})


def _expert_traits(problem: Problem, parts: Sequence[str]) -> Traits:
    T, H, I, E, K = (  # noqa: E741
        problem.num_tokens,
        problem.hidden_size,
        problem.intermediate_size,
        problem.num_experts,
        problem.top_k,
    )
    named = {
        "pattern": _short_pattern(parts[1]),
        "values": parts[2],
        "layout": parts[3],
        "unwritten": parts[5] if len(parts) == 6 else UnwrittenMemory.NAN.value,
        "dtype": problem.dtype,
        "T": str(T),
        "H": str(H),
        "I": str(I),
        "E": str(E),
        "K": str(K),
    }
    return Traits("experts", named, (E, K, H, I, T), T * K * H * I)


def _router_traits(problem: RouterProblem, *, logits: str) -> Traits:
    named = {
        "logits": logits,
        "scoring": problem.scoring,
        "renormalized": "yes" if problem.renormalize else "no",
        "bias": "yes" if problem.has_bias else "no",
        "groups": f"{problem.num_groups}x{problem.topk_groups}",
        "scaling": f"{problem.scaling_factor:g}",
        "dtype": problem.dtype,
        "T": str(problem.num_tokens),
        "E": str(problem.num_experts),
        "K": str(problem.top_k),
    }
    sizes = (problem.num_experts, problem.top_k, problem.num_tokens)
    return Traits("router", named, sizes, problem.num_tokens * problem.num_experts)


def _short_pattern(pattern: str) -> str:
    name, colon, argument = pattern.partition(":")
    return f"{name}:..." if colon and len(argument) > _LONGEST_ARGUMENT else pattern
