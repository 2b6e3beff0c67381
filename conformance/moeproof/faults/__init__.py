"""Implementations that are wrong on purpose, to show what the checks catch."""

from __future__ import annotations

from typing import Any

from moeproof.faults import (
    activation,
    arithmetic,
    batch,
    indexing,
    kernel_edits,
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
    "kernel_edits",
    "layout",
    "memory",
    "routing",
    "weighting",
]


def __getattr__(name: str) -> Any:
    """``moeproof.faults:gelu`` names a fault's implementation, as on the command line."""
    for fault in (FAULTS.get(name), CONTROL, kernel_edits.UNEDITED):
        if fault is not None and fault.name == name:
            return fault.implementation
    raise AttributeError(f"module {__name__!r} has no attribute or fault {name!r}")
