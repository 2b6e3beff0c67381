"""Would the judgement of a case refuse gross errors? If not, its PASS says nothing.

A right answer is spoilt in the ways in which implementations go wrong as a whole, and put before
the same judgement. Spoilt answers that would pass are blind spots, unless there is nothing to see:
the routing leaves the spoilt part idle, any value is right there, or what changes is no
substantial part of the answer. What is substantial is told by yardsticks that know nothing of the
bounds, so a bound that grows too wide shows, and so do inputs that have become too small.
"""

from __future__ import annotations

from collections.abc import Iterable

from moeproof.blindness.experts import examine_experts
from moeproof.blindness.router import examine_router
from moeproof.blindness.sight import Sight

__all__ = ["Sight", "blind_spot", "examine_experts", "examine_router"]


def blind_spot(sights: Iterable[Sight]) -> str | None:
    """The first gross error that would pass, in words, or None."""
    return next((sight.example for sight in sights if sight.blind), None)
