"""Implementations that are wrong on purpose, to show what the checks catch."""

from __future__ import annotations

from moeproof.faults import (
    activation,
    arithmetic,
    batch,
    indexing,
    layout,
    memory,
    routing,
    weighting,
)
from moeproof.faults.fault import CONTROL, FAULTS, Fault

__all__ = [
    "CONTROL",
    "FAULTS",
    "Fault",
    "activation",
    "arithmetic",
    "batch",
    "indexing",
    "layout",
    "memory",
    "routing",
    "weighting",
]
