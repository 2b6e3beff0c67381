"""Edits of what shares down's few tiles out among more programs, each narrower."""

from __future__ import annotations

from moeproof.faults.kernel_edits.edit import kernel_fault

_DEVICES = frozenset({"cpu", "cuda"})
"""No config for AMD's architectures has narrow tiles."""

kernel_fault(
    "kernel_narrow_down_stops_at_wide_columns",
    "there are as many narrow tiles as wide ones: the other half of the columns stays unwritten",
    module="down",
    find="            num_tiles,\n            narrow_column_tiles,\n",
    replacement="            num_tiles,\n            column_tiles,\n",
    bug_class="tile",
    devices=_DEVICES,
)
kernel_fault(
    "kernel_narrow_down_for_many_tiles",
    "many tiles are narrow, for which the grid has too few programs, and few ones wide",
    module="down",
    find="few = num_tiles * column_tiles <= few_up_to",
    replacement="few = num_tiles * column_tiles > few_up_to",
    bug_class="schedule",
    devices=_DEVICES,
)
