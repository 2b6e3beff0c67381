"""How many planted faults do the tolerances of ordinary MoE tests catch, and at what price?

Every fault of the experts and every right variant runs on random uniform cases of the sizes that
engines test, in bf16: once with values a tenth of unit variance (as vLLM's tests draw them) and
once with outputs of order one. Six rules judge the outputs, in the favourable setting that the
truth is known in float64. Beside them: the suite's accuracy check on the same outputs, and its
quick profile.

    python docs/figures/ordinary_tolerances.py        prints the table, writes the figure beside it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moeproof.case import Case
from moeproof.checks.accuracy import judge_accuracy
from moeproof.devices import Device
from moeproof.faults import CONTROL, FAULTS, Fault
from moeproof.faults.matrix import fault_matrix, same_trial
from moeproof.implementation import Implementation
from moeproof.inputs import ExpertInputs, make_inputs
from moeproof.problem import Problem
from moeproof.profiles import plan
from moeproof.random_source import round_to_storage
from moeproof.trial import Trial
from moeproof.variants import VARIANTS, Variant
from moeproof.verdict import Outcome

Array = NDArray[np.float64]
FIGURE = Path(__file__).with_suffix(".svg")
CPU = Device("cpu")

# vLLM tests m in {1, 33, 64, 222}, n and k from 128 up, 8 or 64 experts, top-k 2 or 6.
PROBLEMS = tuple(
    Problem(tokens, hidden, intermediate, experts, top_k, "bf16")
    for tokens, hidden, intermediate, experts, top_k in (
        (1, 128, 128, 8, 2),
        (33, 128, 128, 8, 2),
        (33, 128, 256, 64, 6),
        (64, 256, 128, 8, 2),
        (222, 128, 128, 8, 2),
    )
)


@dataclass(frozen=True)
class Answer:
    """An output beside what it is judged by; all (T, H) float64.

    Attributes:
        actual: the output. truth: the exact result.
        baseline: the output of plain torch operations in the same format.
    """

    actual: Array
    truth: Array
    baseline: Array


def close(atol: float, rtol: float) -> Callable[[Answer], bool]:
    """``torch.allclose``: |error| <= atol + rtol |truth| everywhere."""
    return lambda a: bool(np.all(np.abs(a.actual - a.truth) <= atol + rtol * np.abs(a.truth)))


def cosine(answer: Answer) -> bool:
    """DeepGEMM's 1 - 2 x.y / (x.x + y.y) < 1e-3."""
    x, y = answer.actual, answer.truth
    return bool(1 - 2 * (x * y).sum() / (x * x + y * y).sum() < 1e-3)


def twice_baseline(answer: Answer) -> bool:
    """FlashAttention's rule: at most twice the largest error of plain torch."""
    worst = np.abs(answer.actual - answer.truth).max()
    return bool(worst <= 2 * np.abs(answer.baseline - answer.truth).max())


def max_and_rms(answer: Answer) -> bool:
    """triton_kernels' rule: errors relative to max(|truth|, its RMS), at most 2e-2, RMS 4e-3."""
    scale = np.maximum(np.abs(answer.truth), np.sqrt(np.mean(answer.truth**2)))
    relative = np.abs(answer.actual - answer.truth) / scale
    return bool(relative.max() <= 2e-2 and np.sqrt(np.mean(relative**2)) <= 4e-3)


RULES: dict[str, Callable[[Answer], bool]] = {
    "atol = rtol = 5e-2": close(5e-2, 5e-2),
    "atol = 2e-2": close(2e-2, 0.0),
    "atol = rtol = 1e-2": close(1e-2, 1e-2),
    "cosine 1e-3": cosine,
    "2 x baseline": twice_baseline,
    "max 2e-2 and RMS 4e-3": max_and_rms,
}
ACCURACY = "moeproof, accuracy alone"
QUICK = "moeproof, quick profile"
SHOWS = "the output differs at all"


def scaled(inputs: ExpertInputs) -> ExpertInputs:
    """The same draws with a standard deviation of a tenth everywhere."""
    changed = {}
    for name in ("hidden_states", "gate_up_proj", "down_proj"):
        values = getattr(inputs, name).astype(np.float64)
        values *= 0.1 / values.std()
        changed[name] = round_to_storage(values, getattr(inputs, name).dtype)
    return replace(inputs, **changed)


def order_one(inputs: ExpertInputs) -> ExpertInputs:
    """As the suite draws them."""
    return inputs


DRAWS: dict[str, Callable[[ExpertInputs], ExpertInputs]] = {
    "inputs / 10": scaled,
    "outputs of order one": order_one,
}


@dataclass(frozen=True)
class Sample:
    """A case's inputs and truth, the baseline's output and a right one's."""

    known: Trial
    baseline: Array
    right: Array

    @classmethod
    def of(cls, case: Case, draw: Callable[[ExpertInputs], ExpertInputs]) -> Sample:
        """The case with inputs drawn in another way."""
        known = Trial(case, CONTROL.implementation, CPU)
        known.inputs = draw(make_inputs(case))
        plain = VARIANTS["rounds_everything"].implementation
        baseline = same_trial(known, plain).output.astype(np.float64)
        return cls(known, baseline, known.output.astype(np.float64))

    def refused_by(self, implementation: Implementation) -> set[str]:
        """The rules that refuse an implementation's output; ``SHOWS`` if it is another at all."""
        trial = same_trial(self.known, implementation)
        actual = trial.output.astype(np.float64)
        answer = Answer(actual, self.known.interval.centre, self.baseline)
        with np.errstate(all="ignore"):
            refused = {name for name, accepts in RULES.items() if not accepts(answer)}
        if judge_accuracy(trial).outcome is not Outcome.PASS:
            refused.add(ACCURACY)
        if not np.array_equal(actual, self.right):
            refused.add(SHOWS)
        return refused


@dataclass(frozen=True)
class Tally:
    """How many faults a rule catches, and how many right variants it refuses."""

    caught: int
    false_alarms: int


@dataclass(frozen=True)
class Measured:
    """What the figure shows.

    Attributes:
        faults, variants: how many there are.
        shows: way to draw -> faults whose output differs at all from the right steps'.
        tallies: rule -> way to draw -> tally; refused in at least one case counts.
        quick: the same for the suite's quick profile.
    """

    faults: int
    variants: int
    shows: dict[str, int]
    tallies: dict[str, dict[str, Tally]]
    quick: Tally


def measure() -> Measured:
    """Run everything: some minutes on one core."""
    faults = [fault for fault in FAULTS.values() if fault.kind == "experts"]
    variants = [variant for variant in VARIANTS.values() if variant.kind == "experts"]
    shows: dict[str, int] = {}
    tallies: dict[str, dict[str, Tally]] = {name: {} for name in (*RULES, ACCURACY)}
    for title, draw in DRAWS.items():
        cases = [Case(problem, "uniform", seed=seed) for problem in PROBLEMS for seed in range(2)]
        samples = [Sample.of(case, draw) for case in cases]
        wrong = [_refused(fault.implementation, samples) for fault in faults]
        right = [_refused(variant.implementation, samples) for variant in variants]
        shows[title] = sum(SHOWS in refused for refused in wrong)
        for name, tally in tallies.items():
            caught = sum(name in refused for refused in wrong)
            tally[title] = Tally(caught, sum(name in refused for refused in right))
    return Measured(len(faults), len(variants), shows, tallies, _quick(faults, variants))


def _refused(implementation: Implementation, samples: list[Sample]) -> set[str]:
    return set().union(*(sample.refused_by(implementation) for sample in samples))


def _quick(faults: list[Fault], variants: list[Variant]) -> Tally:
    planned = plan("quick", CPU.name)
    wrong = fault_matrix(faults, planned, CPU, stop_at_first=True)
    subjects = [replace(CONTROL, load=partial(attrgetter("implementation"), v)) for v in variants]
    right = fault_matrix(subjects, planned, CPU, stop_at_first=True)
    return Tally(sum(r.caught for r in wrong), sum(r.caught for r in right))


def as_markdown(measured: Measured) -> str:
    """The table of docs/proof.md."""
    head = "".join(f" caught, {t} | refused, {t} |" for t in DRAWS)
    lines = [f"| rule |{head}", "|---|" + "--:|" * (2 * len(DRAWS))]

    def row(name: str, tallies: list[Tally]) -> str:
        cells = (
            f"{t.caught} of {measured.faults} | {t.false_alarms} of {measured.variants}"
            for t in tallies
        )
        return f"| {name} | {' | '.join(cells)} |"

    lines += [row(name, list(tally.values())) for name, tally in measured.tallies.items()]
    lines.append(row(QUICK, [measured.quick] * len(DRAWS)))
    shows = " and ".join(f"{count} ({title})" for title, count in measured.shows.items())
    lines.append(
        f"\nFaults whose output differs at all from the right one's in these cases: {shows}."
    )
    return "\n".join(lines) + "\n"


# Colours with at least 3:1 against white and against GitHub's dark background.
TEXT, WEAK, STRONG, ALARM = "#757d86", "#8f7cc0", "#2f81c7", "#d0512d"
LEFT, BAR, ROW, TOP = 240, 350, 44, 60
REFUSED = LEFT + BAR + 50


def as_svg(measured: Measured) -> str:
    """Bars: faults caught; a line: faults that show at all; beside: right variants refused."""
    scaled_title, one_title = DRAWS
    rows: list[tuple[str, list[tuple[Tally, str]]]] = [
        (name, [(tally[scaled_title], WEAK), (tally[one_title], STRONG)])
        for name, tally in measured.tallies.items()
    ]
    rows.append((QUICK, [(measured.quick, STRONG)]))
    bottom = TOP + ROW * len(measured.tallies) - 8
    visible = LEFT + BAR * max(measured.shows.values()) / measured.faults
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {TOP + ROW * len(rows) + 4}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{TEXT}">',
        f"<title>{measured.faults} planted faults: what ordinary tolerances catch</title>",
        _text(LEFT, 20, f"caught, of {measured.faults} planted faults", weight="bold"),
        _text(LEFT, 42, scaled_title, fill=WEAK),
        _text(LEFT + 80, 42, one_title, fill=STRONG),
        _text(REFUSED, 20, "right variants", weight="bold"),
        _text(REFUSED, 42, f"refused, of {measured.variants}"),
        f'<path d="M{visible:.1f} {TOP - 4}V{bottom}" stroke="{TEXT}" stroke-dasharray="3 3"/>',
        _text(visible + 6, TOP + 3.5 * ROW, "no other fault"),
        _text(visible + 6, TOP + 3.5 * ROW + 17, "shows in these cases"),
    ]
    for turn, (name, tallies) in enumerate(rows):
        top = TOP + turn * ROW
        weight = "bold" if name.startswith("moeproof") else "normal"
        parts.append(_text(LEFT - 12, top + 19, name, anchor="end", weight=weight))
        thick = 32 // len(tallies)
        for line, (tally, colour) in enumerate(tallies):
            y = top + line * thick
            width = BAR * tally.caught / measured.faults
            # A rule that refuses nearly everything has told nothing apart.
            opacity = 1 - 0.7 * tally.false_alarms / measured.variants
            parts.append(
                f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{thick - 2}" rx="2" '
                f'fill="{colour}" opacity="{opacity:.2f}"/>'
            )
            middle = y + thick / 2 + 3.5
            parts.append(_text(LEFT + width + 6, middle, str(tally.caught)))
            warning = ALARM if tally.false_alarms else TEXT
            parts.append(_text(REFUSED, middle, str(tally.false_alarms), fill=warning))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(
    x: float, y: float, content: str, *, fill: str = TEXT, anchor: str = "start",
    weight: str = "normal",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(content)}</text>'
    )


if __name__ == "__main__":
    result = measure()
    print(as_markdown(result))
    FIGURE.write_text(as_svg(result), encoding="utf-8")
