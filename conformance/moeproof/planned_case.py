"""A case and the checks it is to be judged by: what a profile is made of."""

from __future__ import annotations

from dataclasses import dataclass

from moeproof.case_id import AnyCase


@dataclass(frozen=True)
class PlannedCase:
    """A case and the names of its checks, in order."""

    case: AnyCase
    checks: tuple[str, ...]
