"""The checks: each module asks one question of an implementation, all by the same signature."""

from __future__ import annotations

from moeproof.checks.accuracy import ACCURACY
from moeproof.checks.check import Check
from moeproof.checks.determinism import DETERMINISM
from moeproof.checks.exact import EXACT
from moeproof.checks.graph_replay import GRAPH_REPLAY
from moeproof.checks.memory import MEMORY
from moeproof.checks.metamorphic import METAMORPHIC
from moeproof.checks.rejects import REJECTS
from moeproof.checks.rounding import ROUNDING
from moeproof.checks.routing import ROUTING

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        ACCURACY,
        ROUNDING,
        EXACT,
        MEMORY,
        DETERMINISM,
        METAMORPHIC,
        GRAPH_REPLAY,
        ROUTING,
        REJECTS,
    )
}
"""Every check by name, in the order in which a case is judged."""

__all__ = ["CHECKS", "Check"]
