"""From a case id back to the case it names."""

from __future__ import annotations

from moeproof.case import Case
from moeproof.router_case import RouterCase

AnyCase = Case | RouterCase


def parse_case_id(case_id: str) -> AnyCase:
    """The case or router case with this id. Raises ValueError for any other text."""
    if case_id.startswith("route-"):
        return RouterCase.parse(case_id)
    return Case.parse(case_id)
