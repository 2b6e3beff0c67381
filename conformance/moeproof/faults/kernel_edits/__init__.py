"""Kernel faults: edits of the kernels of ``moe_dispatch``, one module a part of the pipeline."""

from __future__ import annotations

from moeproof.faults.kernel_edits import (
    combine,
    gemms,
    gemv,
    heights,
    joint,
    narrow,
    persistent,
    router,
    schedule,
    sliced,
)
from moeproof.faults.kernel_edits.edit import KERNEL_EDITS, PACKAGE, UNEDITED

__all__ = [
    "KERNEL_EDITS",
    "PACKAGE",
    "UNEDITED",
    "combine",
    "gemms",
    "gemv",
    "heights",
    "joint",
    "narrow",
    "persistent",
    "router",
    "schedule",
    "sliced",
]
