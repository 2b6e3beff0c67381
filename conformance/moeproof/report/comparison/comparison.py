"""Everything that a comparison of two reports says, as a value."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from moeproof.report.comparison.error_class import ErrorClass, equal_bits, error_class
from moeproof.report.comparison.pairing import VerdictPair, pair_reports
from moeproof.report.identity import Difference, differences
from moeproof.report.page.traits import BROKEN
from moeproof.report.report import Report
from moeproof.verdict import Outcome, Verdict

_UNJUDGED_DTYPES = frozenset({"fp32"})
_FEWEST_OUTPUTS_OF_A_PART = 2000
_WORST_ROWS = 10
_NAMES_SHOWN = 3
_UNSUPPORTED = Outcome.UNSUPPORTED.value


@dataclass(frozen=True)
class VerdictChange:
    """Verdicts that changed in the same way.

    Those of one check and dtype go together; where the change is that only one run claims what
    is needed, those that lack the same.

    Attributes:
        checks, dtypes, values: of the cases; ``values`` are a router case's logits.
        before, after: A's and B's outcome.
        changed, of: how many changed, of how many of these checks and dtypes that A judged
            ``before``.
        case_id, message: the first, and what the worse of both verdicts said of it.
    """

    checks: tuple[str, ...]
    dtypes: tuple[str, ...]
    values: tuple[str, ...]
    before: str
    after: str
    changed: int
    of: int
    case_id: str
    message: str

    @property
    def place(self) -> str:
        """Such as ``accuracy, bf16, random``."""
        return ", ".join(_some(names) for names in (self.checks, self.dtypes, self.values))

    def __str__(self) -> str:
        text = (
            f"{self.place}: {self.changed} of {self.of} verdicts went from {self.before} to "
            f"{self.after}"
        )
        return f"{text}: {self.message}" if _UNSUPPORTED in (self.before, self.after) else text


@dataclass(frozen=True)
class BitDifference:
    """Outputs of one check and dtype that must be equal bit for bit and are not."""

    check: str
    dtype: str
    changed: int
    of: int
    case_id: str


@dataclass(frozen=True)
class RoundingDifference:
    """What all cases of a dtype say of the rounding, where no one profile fits both runs."""

    dtype: str
    first: str
    second: str


@dataclass(frozen=True)
class ErrorGroup:
    """Errors of outputs that have a dtype and perhaps a value family or a pattern in common.

    Attributes:
        dtype: of all. trait, value: such as ``pattern`` and ``zipf``; empty for all of a dtype.
        errors: the statistic.
        equal_bits: the share of sampled outputs that are equal bit for bit.
        is_judged: whether a difference counts.
    """

    dtype: str
    trait: str
    value: str
    errors: ErrorClass
    equal_bits: float
    is_judged: bool

    @property
    def differs(self) -> bool:
        """The errors are judged, and not of one class; of a part, that they are of another."""
        return self.is_judged and (self.errors.is_other if self.trait else not self.errors.is_one)

    @property
    def name(self) -> str:
        """Such as ``bf16, pattern zipf``."""
        return f"{self.dtype}, {self.trait} {self.value}" if self.trait else self.dtype


@dataclass(frozen=True)
class RatioGroup:
    """Largest error over bound of each case of one check, dtype and pattern, in both runs."""

    check: str
    dtype: str
    pattern: str
    cases: int
    first_median: float
    second_median: float
    first_largest: float
    second_largest: float


@dataclass(frozen=True)
class WorstRow:
    """A case whose largest error over bound changed much, and the tokens where it is."""

    check: str
    case_id: str
    first_ratio: float
    second_ratio: float
    first_token: int
    second_token: int


@dataclass(frozen=True)
class Comparison:
    """Two reports, A and B, held against each other.

    Attributes:
        first, second: A and B.
        metadata_differences: in what they were made differently.
        pairs: verdicts compared. same_outcomes: how many had the same outcome.
        broken_in_both: how many of these are FAIL or ERROR; they do not part the runs.
        changes: verdicts that changed. exact_cases: compared bit for bit.
        bit_differences: those that are not equal.
        rounding_differences: dtypes in which no rounding profile fits both.
        dtypes: errors by dtype. groups: by dtype and value family or pattern.
        ratios: by check, dtype and pattern. worst_rows: the largest changes first.
    """

    first: Report
    second: Report
    metadata_differences: tuple[Difference, ...]
    pairs: int
    same_outcomes: int
    broken_in_both: int
    changes: tuple[VerdictChange, ...]
    exact_cases: int
    bit_differences: tuple[BitDifference, ...]
    rounding_differences: tuple[RoundingDifference, ...]
    dtypes: tuple[ErrorGroup, ...]
    groups: tuple[ErrorGroup, ...]
    ratios: tuple[RatioGroup, ...]
    worst_rows: tuple[WorstRow, ...]

    @property
    def is_one_class(self) -> bool:
        """No verdict changed, exact outputs are equal, and errors are of one class."""
        return not self.findings

    @property
    def findings(self) -> list[str]:
        """What differs, a sentence each; empty if the reports are of one class."""
        found = [str(change) for change in self.changes]
        found += [
            f"{item.check}, {item.dtype}: bits differ in {item.changed} of {item.of} exact cases"
            for item in self.bit_differences
        ]
        found += [
            f"rounding, {item.dtype}: no profile fits both; A: {item.first}; B: {item.second}"
            for item in self.rounding_differences
        ]
        differing = [group for group in self.dtypes if group.differs]
        whole = {group.dtype for group in differing}
        # Where all of a dtype differs, its parts need no mention.
        differing += [g for g in self.groups if g.differs and g.dtype not in whole]
        found += [f"accuracy, {group.name}: {group.errors.difference()}" for group in differing]
        return found

    @property
    def headline(self) -> str:
        """The result in a few words."""
        return "One class" if self.is_one_class else "Not one class"

    @property
    def extent(self) -> str:
        """What was compared, in a sentence."""
        judged = [group.dtype for group in self.dtypes if group.is_judged]
        shown = [group.dtype for group in self.dtypes if not group.is_judged]
        errors = f"errors judged in {', '.join(judged) or 'no dtype'}"
        errors += f", shown in {', '.join(shown)}" if shown else ""
        broken = f", {self.broken_in_both:,} of them FAIL or ERROR" if self.broken_in_both else ""
        return (
            f"{self.same_outcomes:,} of {self.pairs:,} verdicts have the same outcome{broken}; "
            f"{self.exact_cases:,} exact outputs were compared bit for bit; {errors}."
        )


def compare_reports(first: Report, second: Report) -> Comparison:
    """Hold report B against report A.

    Raises:
        ReportError: they are of different suites, cases or checks, or have no verdict in common
            that was judged; the message names what differs.
    """
    pairs = pair_reports(first, second)
    same = [pair.first.outcome for pair in pairs if pair.first.outcome is pair.second.outcome]
    exact = [pair for pair in pairs if pair.is_exact and _bits(pair) is not None]
    return Comparison(
        first=first,
        second=second,
        metadata_differences=tuple(differences(first.metadata, second.metadata)),
        pairs=len(pairs),
        same_outcomes=len(same),
        broken_in_both=sum(outcome in BROKEN for outcome in same),
        changes=tuple(_changes(pairs)),
        exact_cases=len(exact),
        bit_differences=tuple(_bit_differences(exact)),
        rounding_differences=tuple(_rounding_differences(first, second)),
        dtypes=tuple(_error_groups(pairs, "", fewest=1)),
        groups=tuple(
            group
            for trait in ("values", "pattern")
            for group in _error_groups(pairs, trait, fewest=_FEWEST_OUTPUTS_OF_A_PART)
        ),
        ratios=tuple(_ratio_groups(pairs)),
        worst_rows=tuple(_worst_rows(pairs)),
    )


def _grouped(
    pairs: Iterable[VerdictPair], key: Callable[[VerdictPair], tuple[str, ...]]
) -> list[tuple[tuple[str, ...], list[VerdictPair]]]:
    groups: dict[tuple[str, ...], list[VerdictPair]] = defaultdict(list)
    for pair in pairs:
        groups[key(pair)].append(pair)
    return sorted(groups.items())


def _changes(pairs: Sequence[VerdictPair]) -> Iterable[VerdictChange]:
    """Wrong answers first, then what only one run claims."""

    def place(pair: VerdictPair) -> tuple[str, str, str]:
        return pair.check, pair.trait("dtype"), pair.first.outcome.value

    def kind(pair: VerdictPair) -> tuple[str, ...]:
        outcomes = pair.first.outcome.value, pair.second.outcome.value
        if _UNSUPPORTED in outcomes:
            return ("claims", *outcomes, _worse(pair).message)
        return ("answers", *outcomes, pair.check, pair.trait("dtype"))

    judged = Counter(place(pair) for pair in pairs)
    changed = [pair for pair in pairs if pair.first.outcome is not pair.second.outcome]
    for _, group in _grouped(changed, kind):
        yield VerdictChange(
            checks=_distinct(pair.check for pair in group),
            dtypes=_distinct(pair.trait("dtype") for pair in group),
            values=_distinct(pair.trait("values") or pair.trait("logits") for pair in group),
            before=group[0].first.outcome.value,
            after=group[0].second.outcome.value,
            changed=len(group),
            of=sum(judged[of_one] for of_one in {place(pair) for pair in group}),
            case_id=group[0].case_id,
            message=_worse(group[0]).message,
        )


def _worse(pair: VerdictPair) -> Verdict:
    return pair.second if pair.first.outcome is Outcome.PASS else pair.first


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))


def _some(names: Sequence[str]) -> str:
    """All of a few names; of many the first, and how many more."""
    shown = " and ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


def _bits(pair: VerdictPair) -> tuple[object, object] | None:
    """What stands for the bits of both outputs, where both were judged and the check keeps it."""
    if pair.sketches is not None:
        return pair.sketches[0].digest, pair.sketches[1].digest
    digests = [verdict.evidence.get("output_digest") for verdict in (pair.first, pair.second)]
    return None if None in digests else (digests[0], digests[1])


def _bit_differences(exact: Sequence[VerdictPair]) -> Iterable[BitDifference]:
    for (check, dtype), group in _grouped(exact, lambda pair: (pair.check, pair.trait("dtype"))):
        different = [pair for pair in group if len(set(_bits(pair) or ())) > 1]
        if different:
            yield BitDifference(check, dtype, len(different), len(group), different[0].case_id)


def _rounding_differences(first: Report, second: Report) -> Iterable[RoundingDifference]:
    left, right = (
        {item.dtype: item for item in report.footer.rounding} for report in (first, second)
    )
    for dtype in left:
        if dtype in right:
            surviving = [set(side[dtype].surviving) for side in (left, right)]
            alike = bool(surviving[0] & surviving[1]) or surviving == [set(), set()]
            if not alike:
                yield RoundingDifference(dtype, left[dtype].message, right[dtype].message)


def _error_groups(pairs: Sequence[VerdictPair], trait: str, *, fewest: int) -> Iterable[ErrorGroup]:
    sketched = [pair for pair in pairs if pair.sketches is not None]
    for (dtype, value), group in _grouped(
        sketched, lambda pair: (pair.trait("dtype"), pair.trait(trait))
    ):
        sketches = [pair.sketches for pair in group if pair.sketches is not None]
        errors = error_class(sketches)
        if errors is not None and errors.outputs >= fewest:
            judged = dtype not in _UNJUDGED_DTYPES
            yield ErrorGroup(dtype, trait, value, errors, equal_bits(sketches), judged)


def _ratio_groups(pairs: Sequence[VerdictPair]) -> Iterable[RatioGroup]:
    groups = _grouped(
        [pair for pair in pairs if _ratios(pair) is not None],
        lambda pair: (pair.check, pair.trait("dtype"), pair.trait("pattern").partition(":")[0]),
    )
    for (check, dtype, pattern), group in groups:
        first, second = zip(*(_ratios(pair) or () for pair in group), strict=True)
        yield RatioGroup(
            check, dtype, pattern, len(group),
            median(first), median(second), max(first), max(second),
        )  # fmt: skip


def _ratios(pair: VerdictPair) -> tuple[float, float] | None:
    found = [verdict.figures.get("max_error_ratio") for verdict in (pair.first, pair.second)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _worst_rows(pairs: Sequence[VerdictPair]) -> Iterable[WorstRow]:
    rows = []
    for pair in pairs:
        ratios = _ratios(pair)
        if ratios is not None and pair.sketches is not None and ratios[0] != ratios[1]:
            tokens = [sketch.worst_token for sketch in pair.sketches]
            rows.append(WorstRow(pair.check, pair.case_id, *ratios, *tokens))
    return sorted(rows, key=lambda row: -abs(row.second_ratio - row.first_ratio))[:_WORST_ROWS]
