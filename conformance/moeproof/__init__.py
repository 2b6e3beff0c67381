"""moeproof: a conformance suite for fused Mixture-of-Experts kernels."""

from __future__ import annotations

from moeproof.case import Case, Layout, ValueFamily
from moeproof.case_id import parse_case_id
from moeproof.implementation import Capabilities, Implementation
from moeproof.problem import Problem
from moeproof.rounding_profile import RoundingProfile
from moeproof.router_case import LogitFamily, RouterCase, RouterProblem
from moeproof.verdict import Outcome, Verdict

__all__ = [
    "Capabilities",
    "Case",
    "Implementation",
    "Layout",
    "LogitFamily",
    "Outcome",
    "Problem",
    "RoundingProfile",
    "RouterCase",
    "RouterProblem",
    "ValueFamily",
    "Verdict",
    "parse_case_id",
]
