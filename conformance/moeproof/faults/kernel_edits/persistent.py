"""Edits of the persistent kernel: programs that work through many tiles, cut without tails."""

from __future__ import annotations

from moeproof.faults.kernel_edits.edit import kernel_fault

_DEVICES = frozenset({"cpu", "cuda"})
"""No config for AMD's architectures has the persistent kernel."""

kernel_fault(
    "kernel_persistent_stops_after_one_tile",
    "each persistent program works on its first tile alone",
    module="persistent_down",
    find="        num_tiles * column_tiles,\n        tl.num_programs(0),",
    replacement="        tl.minimum(num_tiles * column_tiles, tl.num_programs(0)),\n"
    "        tl.num_programs(0),",
    bug_class="schedule",
    devices=_DEVICES,
)
kernel_fault(
    "kernel_persistent_for_a_fixed_number_of_programs",
    "persistent programs step over as many tiles as another GPU has multiprocessors",
    module="persistent_down",
    find="        tl.num_programs(0),\n        num_stages",
    replacement="        132 + 0 * tl.num_programs(0),\n        num_stages",
    bug_class="configs",
    devices=frozenset({"cpu"}),
)
kernel_fault(
    "kernel_persistent_last_tile_missing",
    "the last tile of the persistent kernel is nobody's",
    module="persistent_down",
    find="        num_tiles * column_tiles,\n        tl.num_programs(0),",
    replacement="        num_tiles * column_tiles - 1,\n        tl.num_programs(0),",
    bug_class="schedule",
    devices=_DEVICES,
)
kernel_fault(
    "kernel_persistent_takes_tiles_with_tails",
    "tiles that are to be cut without tails have them, past the rows that are multiplied",
    module="schedule",
    find="            block_m,\n            0,\n",
    replacement="            block_m,\n            tail,\n",
    bug_class="tile",
    devices=_DEVICES,
)
kernel_fault(
    "kernel_persistent_accumulators_not_cleared",
    "a persistent program's tile starts from the sums of the one before it",
    module="persistent_down",
    find="        y = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)\n",
    replacement="        if program == tl.program_id(0):\n"
    "            y = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)\n",
    bug_class="accumulation",
    devices=frozenset({"cpu"}),
)
