"""Parts of a plan, to be judged by several machines."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from moeproof.planned_case import PlannedCase
from moeproof.report.report import Shard, plan_digest, planned_pairs


@dataclass(frozen=True)
class ShardChoice:
    """One of ``count`` parts of any plan; ``index`` counts from 1.

    A case's part depends on its id and the number of parts alone: cases that are added to a
    profile move no other.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(
                f"shard must be INDEX/COUNT with 1 <= INDEX <= COUNT, got {self.index}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> ShardChoice:
        """The choice that ``2/3`` names. Raises ValueError for anything that is none."""
        match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        if match is None:
            raise ValueError(f"shard must be INDEX/COUNT such as 2/3, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def holds(self, case_id: str) -> bool:
        """Whether a case belongs to this part."""
        digest = hashlib.sha256(case_id.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    def part_of(self, planned: Sequence[PlannedCase]) -> list[PlannedCase]:
        """The planned cases of this part, in order."""
        return [item for item in planned if self.holds(item.case.case_id)]

    def describe(self, planned: Sequence[PlannedCase]) -> Shard:
        """What the header says of this part of a whole plan."""
        pairs = planned_pairs(planned)
        return Shard(self.index, self.count, len(pairs), plan_digest(pairs))
