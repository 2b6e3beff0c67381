"""A check and a case that are known to catch each fault, so that it need not be searched for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from moeproof.case_id import parse_case_id
from moeproof.planned_case import PlannedCase

KNOWN_CATCHES = Path(__file__).with_name("known_catches.json")
"""By fault's name. ``ci/proof.py`` writes it; the tests demand that each of them catches."""


@dataclass(frozen=True)
class KnownCatch:
    """A check that catches a fault, and in which case."""

    check: str
    case_id: str

    @property
    def planned(self) -> PlannedCase:
        """This one case by this one check."""
        return PlannedCase(parse_case_id(self.case_id), (self.check,))


@cache
def read_known_catches() -> Mapping[str, KnownCatch]:
    """The known catch of each fault, by the fault's name."""
    read = json.loads(KNOWN_CATCHES.read_text(encoding="utf-8"))
    return {name: KnownCatch(**catch) for name, catch in read.items()}


def write_known_catches(catches: Mapping[str, KnownCatch]) -> None:
    """Replace what is known."""
    text = json.dumps({name: asdict(catch) for name, catch in catches.items()}, indent=1)
    KNOWN_CATCHES.write_text(f"{text}\n", encoding="utf-8")


def known_catches(planned: Sequence[PlannedCase]) -> dict[str, PlannedCase]:
    """What is known and part of a plan, ready to be judged."""
    pairs = {(item.case.case_id, check) for item in planned for check in item.checks}
    return {
        name: catch.planned
        for name, catch in read_known_catches().items()
        if (catch.case_id, catch.check) in pairs
    }
