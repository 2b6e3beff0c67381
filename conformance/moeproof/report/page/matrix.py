"""Outcomes in a grid of two traits: where an implementation breaks, seen at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from moeproof.report.page.traits import Judged
from moeproof.report.report import Pair
from moeproof.routing_pattern import routing_patterns
from moeproof.verdict import Outcome

# A silent wrong answer is worse than a crash, which somebody notices.
_WORST_FIRST = (Outcome.FAIL, Outcome.ERROR, Outcome.UNSUPPORTED, Outcome.PASS)


@dataclass(frozen=True)
class Line:
    """A row or a column.

    Attributes:
        label: its name. explanation: more, for a tooltip; may be empty.
        group: lines of one group lie together. order: what a group is sorted by.
    """

    label: str
    explanation: str = ""
    group: str = ""
    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cell:
    """The verdicts that share a row and a column.

    Attributes:
        outcome: the worst; PASS where some passed and the others are UNSUPPORTED (``mixed``).
        counts: how many of each, in words.
        anchor: of the first failure, or None.
    """

    outcome: Outcome
    mixed: bool
    counts: str
    anchor: str | None


@dataclass(frozen=True)
class Matrix:
    """A grid of cells; None where no verdict lies.

    Attributes:
        title, note: for people.
        column_groups: name and number of columns, from left to right.
    """

    title: str
    note: str
    column_groups: tuple[tuple[str, int], ...]
    columns: tuple[Line, ...]
    rows: tuple[tuple[Line, tuple[Cell | None, ...]], ...]


Axis = Callable[[Judged], Line]


def matrices(judged: Sequence[Judged], anchors: Mapping[Pair, str]) -> list[Matrix]:
    """The grids of a run; one without a verdict is left out.

    Args:
        judged: the run's verdicts.
        anchors: where the page shows each failure.
    """

    def matrix(title: str, note: str, items: Sequence[Judged], row: Axis, column: Axis) -> Matrix:
        groups: dict[tuple[Line, Line], list[Judged]] = defaultdict(list)
        for item in items:
            groups[row(item), column(item)].append(item)
        cells = {place: _cell(found, anchors) for place, found in groups.items()}
        rows = _in_order(line for line, _ in cells)
        columns = _in_order(line for _, line in cells)
        return Matrix(
            title,
            note,
            tuple((group, len(list(lines))) for group, lines in groupby(columns, _group)),
            tuple(columns),
            tuple((line, tuple(cells.get((line, other)) for other in columns)) for line in rows),
        )

    experts = [item for item in judged if item.traits.target == "experts"]
    router = [item for item in judged if item.traits.target == "router"]
    grids = [
        matrix(
            "Routing patterns on problems",
            "Problems that are routed in more than one way. A cell holds all checks, value "
            "families, layouts and seeds.",
            _on_shared_problems(experts),
            _pattern,
            _problem,
        ),
        matrix("Value families", "", experts, _trait("values"), _trait("dtype")),
        matrix("Layouts", "", experts, _trait("layout"), _trait("dtype")),
        matrix("Sizes", "", experts, _size, _trait("dtype")),
        matrix("Routers", "", router, _router, _trait("logits")),
    ]
    return [grid for grid in grids if grid.rows]


def _on_shared_problems(experts: Sequence[Judged]) -> list[Judged]:
    patterns = defaultdict(set)
    for item in experts:
        patterns[_problem(item)].add(item.traits.named["pattern"])
    return [item for item in experts if len(patterns[_problem(item)]) > 1]


def _cell(items: Sequence[Judged], anchors: Mapping[Pair, str]) -> Cell:
    counts = Counter(item.verdict.outcome for item in items)
    mixed = set(counts) == {Outcome.PASS, Outcome.UNSUPPORTED}
    worst = next(outcome for outcome in _WORST_FIRST if counts[outcome])
    broken = [item.verdict for item in items if item.verdict.outcome is worst and item.broken]
    return Cell(
        outcome=Outcome.PASS if mixed else worst,
        mixed=mixed,
        counts=", ".join(f"{counts[each]} {each.value}" for each in _WORST_FIRST if counts[each]),
        anchor=anchors[broken[0].case_id, broken[0].check] if broken else None,
    )


def _trait(name: str) -> Axis:
    return lambda item: Line(item.traits.named[name])


def _pattern(item: Judged) -> Line:
    known = routing_patterns()
    label = item.traits.named["pattern"]
    name = label.partition(":")[0]
    order = list(known).index(name) if name in known else len(known)
    return Line(label, known[name].summary if name in known else "", order=(order,))


def _size(item: Judged) -> Line:
    """Aligned in a monospaced font."""
    T, H, I, E, K = (item.traits.named[size] for size in "THIEK")  # noqa: E741
    label = f"T{T:<5} H{H:<4} I{I:<4} E{E:<4} K{K}"
    return Line(label, order=item.traits.sizes)


def _problem(item: Judged) -> Line:
    size = _size(item)
    return Line(size.label, group=item.traits.named["dtype"], order=size.order)


def _router(item: Judged) -> Line:
    problem = item.verdict.case_id.partition("/")[0]
    return Line(problem.removeprefix("route-"), order=item.traits.sizes)


def _in_order(lines: Iterable[Line]) -> list[Line]:
    return sorted(set(lines), key=lambda line: (line.group, line.order, line.label))


def _group(line: Line) -> str:
    return line.group
