"""The truth: float64 values, and for each the interval a right implementation can land in.

Pure numpy. The numbers of an implementation under test never enter here.
"""

from __future__ import annotations

from moeproof.oracle.experts import ExpertIntervals, expert_interval
from moeproof.oracle.forward import Contributions, expert_contributions, expert_forward
from moeproof.oracle.inference import Nearest, ProfileInference
from moeproof.oracle.interval import Interval
from moeproof.oracle.right_routing import RightRouting, largest_places, right_routing
from moeproof.oracle.router import RoutingViolation, judge_routing
from moeproof.oracle.statistic import R_LIMIT, R_MINIMUM_OUTPUTS, r_statistic
from moeproof.rounding_profile import UNDECLARED, RoundingProfile, candidate_profiles

__all__ = [
    "R_LIMIT",
    "R_MINIMUM_OUTPUTS",
    "UNDECLARED",
    "Contributions",
    "ExpertIntervals",
    "Interval",
    "Nearest",
    "ProfileInference",
    "RightRouting",
    "RoundingProfile",
    "RoutingViolation",
    "candidate_profiles",
    "expert_contributions",
    "expert_forward",
    "expert_interval",
    "judge_routing",
    "largest_places",
    "r_statistic",
    "right_routing",
]
