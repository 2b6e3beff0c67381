"""Waivers: verdicts that are not PASS and are accepted all the same, each for a reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase

from moeproof.report.report import Pair

_ALL = "*"


class WaiverError(ValueError):
    """A waivers file cannot be read, or waives what is not there, or everything."""


@dataclass(frozen=True)
class Waiver:
    """One accepted kind of verdict.

    Attributes:
        check: a check's name, or ``*``.
        cases: a case id, or a shell pattern for some, such as ``*-fp16/*``.
        reason: why it is accepted.
    """

    check: str
    cases: str
    reason: str

    def covers(self, case_id: str, check: str) -> bool:
        """Whether it is about this check of this case."""
        return self.check in (check, _ALL) and fnmatchcase(case_id, self.cases)


def parse_waivers(text: str) -> tuple[Waiver, ...]:
    """The waivers of a JSON list of objects with ``check``, ``cases`` and ``reason``.

    Raises:
        WaiverError: it is something else; a reason is missing; a waiver covers everything.
    """
    try:
        items = json.loads(text)
    except ValueError as error:
        raise WaiverError(f"not JSON: {error}") from error
    if not isinstance(items, list):
        raise WaiverError("must be a list of objects with check, cases and reason")
    return tuple(_parse(number, item) for number, item in enumerate(items, start=1))


def waivers_text(waivers: Sequence[Waiver]) -> str:
    """What :func:`parse_waivers` reads."""
    return json.dumps([asdict(waiver) for waiver in waivers], indent=2) + "\n"


def require_use(waivers: Iterable[Waiver], planned: Iterable[Pair]) -> None:
    """Raise WaiverError if a waiver covers no planned verdict: it is misspelt or stale."""
    pairs = list(planned)
    for waiver in waivers:
        if not any(waiver.covers(case_id, check) for case_id, check in pairs):
            raise WaiverError(
                f"check {waiver.check!r}, cases {waiver.cases!r}: no verdict of the list is of "
                "this check and these cases"
            )


def _parse(number: int, item: object) -> Waiver:
    names = [field.name for field in fields(Waiver)]
    if not isinstance(item, dict) or set(item) != set(names):
        raise WaiverError(f"waiver {number}: must be an object with just {', '.join(names)}")
    if not all(isinstance(value, str) and value.strip() for value in item.values()):
        raise WaiverError(f"waiver {number}: {', '.join(names)} must be text that is not empty")
    waiver = Waiver(**item)
    if waiver.check == _ALL and not waiver.cases.strip("*?"):
        raise WaiverError(f"waiver {number}: would waive everything; name a check or cases")
    return waiver
