"""A case and its verdict in full, for ``moeproof replay``."""

from __future__ import annotations

import numpy as np

from moeproof.case import Case
from moeproof.case_id import AnyCase
from moeproof.inputs import make_routing
from moeproof.router_case import RouterCase
from moeproof.routing_pattern import find_pattern
from moeproof.verdict import Verdict

_BARS = 32
_BAR_WIDTH = 40
_OF_THE_CASE_ITSELF = frozenset({"accuracy", "exact", "memory", "rounding"})
"""Checks whose worst element is one of the case's own tokens, not of a changed batch."""


def describe_case(case: AnyCase) -> str:
    """The problem, and for the experts who goes where."""
    lines = [f"case      {case.case_id}"]
    if isinstance(case, RouterCase):
        return "\n".join([*lines, *_describe_router(case)])
    problem = case.problem
    pattern, _ = find_pattern(case.pattern)
    lines += [
        f"problem   {problem.num_tokens} tokens, hidden size {problem.hidden_size}, intermediate "
        f"size {problem.intermediate_size}, {problem.num_experts} experts, top {problem.top_k}, "
        f"{problem.dtype}",
        f"pattern   {case.pattern}: {pattern.summary}",
        f"values    {case.values.value}",
        f"layout    {case.layout.value}",
        *_histogram(case),
    ]
    return "\n".join(lines)


def describe_verdict(verdict: Verdict) -> str:
    """The outcome and everything that came with it."""
    lines = [f"{verdict.outcome.value}  {verdict.check}  ({verdict.seconds:.2f} s)"]
    if verdict.message:
        lines.append(f"  {verdict.message}")
    if verdict.worst is not None:
        if str(verdict.worst) not in verdict.message:
            lines.append(f"  worst: {verdict.worst}")
        if verdict.check in _OF_THE_CASE_ITSELF:
            lines.append(f"  {_rows_of_token(verdict.case_id, verdict.worst.token)}")
    lines += [f"  {name} = {value:.6g}" for name, value in verdict.figures.items()]
    output = verdict.evidence.get("output", "")
    if output:
        lines.append("  the process wrote:")
        lines += [f"    {line}" for line in output.strip().splitlines()]
    lines.append(f"  {verdict.reproducer}")
    return "\n".join(lines)


def _rows_of_token(case_id: str, token: int) -> str:
    """The token's places in its experts' groups: wrong last rows speak of a tile's edge."""
    case = Case.parse(case_id)
    ids = make_routing(case).topk_ids
    slots = ids.ravel()
    places = []
    for slot, expert in enumerate(ids[token], start=token * case.problem.top_k):
        if 0 <= expert < case.problem.num_experts:
            of_expert = np.flatnonzero(slots == expert)
            row = 1 + int(np.searchsorted(of_expert, slot))
            places.append(f"row {row} of {len(of_expert)} of expert {expert}")
    if not places:
        return f"token {token} has no expert"
    return f"token {token} is {', '.join(places)}; rows in the order of tokens"


def _describe_router(case: RouterCase) -> list[str]:
    problem = case.problem
    rules = [problem.scoring]
    if problem.renormalize:
        rules.append("renormalised")
    if problem.has_bias:
        rules.append("correction bias")
    if problem.num_groups > 1:
        rules.append(f"{problem.topk_groups} of {problem.num_groups} groups")
    if problem.scaling_factor != 1.0:
        rules.append(f"scaled by {problem.scaling_factor:g}")
    return [
        f"problem   {problem.num_tokens} tokens, {problem.num_experts} experts, "
        f"top {problem.top_k}, {problem.dtype}",
        f"rules     {', '.join(rules)}",
        f"logits    {case.logits.value}",
    ]


def _histogram(case: Case) -> list[str]:
    """Slots per expert, or per run of neighbouring experts if there are many."""
    ids = make_routing(case).topk_ids
    experts = case.problem.num_experts
    counts = np.bincount(ids[(ids >= 0) & (ids < experts)], minlength=experts)
    masked = ids.size - int(counts.sum())
    lines = [
        f"routing   {ids.size} slots, {masked} of them masked; {int((counts == 0).sum())} experts "
        f"empty, the fullest has {int(counts.max())}"
    ]
    runs = np.array_split(np.arange(experts), min(_BARS, experts))
    totals = [int(counts[run].sum()) for run in runs]
    for run, total in zip(runs, totals, strict=True):
        name = f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}"
        bar = "#" * -(-total * _BAR_WIDTH // max([*totals, 1]))
        lines.append(f"  expert {name:>9} {total:>7} {bar}")
    return lines
