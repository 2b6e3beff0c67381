"""Edits of what makes a tile as high as its rows: its height, and the rows beside BLOCK_M.

The rows that an expert's last tile has beyond BLOCK_M, up to ``tail`` of them, are multiplied by
the same weights in accumulators of their own.
"""

from __future__ import annotations

from moeproof.faults.kernel_edits.edit import kernel_fault

_DEVICES_WITH_TAIL = frozenset({"cpu", "cuda"})
"""Every config for AMD's architectures has heights up to BLOCK_M alone."""

kernel_fault(
    "kernel_gate_up_full_height_missing",
    "a tile of gate and up with as many rows as its height is computed at no height",
    module="gate_up",
    find="(rows <= HEIGHTS[i])",
    replacement="(rows < HEIGHTS[i])",
    bug_class="tile",
)
kernel_fault(
    "kernel_down_least_height_missing",
    "below the least height of down's tiles comes the last one: index -1",
    module="down",
    find="(HEIGHTS[i - 1] if i else 0)",
    replacement="HEIGHTS[i - 1]",
    bug_class="tile",
)
kernel_fault(
    "kernel_gate_up_rows_past_block_m_not_stored",
    "the rows of a tile beyond BLOCK_M are multiplied by gate and up, and not stored",
    module="gate_up_tile",
    find="store_h(h_ptr, tail_gate, tail_up, rows, end_row,",
    replacement="store_h(h_ptr, tail_gate, tail_up, rows, first_tail,",
    bug_class="tile",
    devices=_DEVICES_WITH_TAIL,
)
kernel_fault(
    "kernel_gate_up_rows_past_block_m_from_the_first",
    "for its rows beyond BLOCK_M a tile gathers its first ones again",
    module="gate_up_tile",
    find="x_ptr, schedule_ptr, max_tiles, first_tail, end_row",
    replacement="x_ptr, schedule_ptr, max_tiles, first_row, end_row",
    bug_class="indexing",
    devices=_DEVICES_WITH_TAIL,
)
kernel_fault(
    "kernel_gate_up_rows_past_block_m_start_early",
    "the rows beyond BLOCK_M are looked for as many rows into the tile as they are themselves",
    module="gate_up_tile",
    find="first_tail = first_row + ROWS",
    replacement="first_tail = first_row + TAIL",
    bug_class="indexing",
    devices=_DEVICES_WITH_TAIL,
)
kernel_fault(
    "kernel_gate_up_rows_past_block_m_up_from_gate",
    "of the rows beyond BLOCK_M both accumulators get the gate's weights",
    module="gate_up_tile",
    find="tail_up = dot_accumulate(up_weight, tail,",
    replacement="tail_up = dot_accumulate(gate_weight, tail,",
    bug_class="layout",
    devices=_DEVICES_WITH_TAIL,
)
kernel_fault(
    "kernel_down_rows_past_block_m_at_first_k",
    "for the rows beyond BLOCK_M every step of down's loop over K reads the first one's columns",
    module="down_tile",
    find="            tail_ptrs += BLOCK_K\n",
    replacement="",
    bug_class="indexing",
    devices=_DEVICES_WITH_TAIL,
)
kernel_fault(
    "kernel_down_rows_past_block_m_over_the_first",
    "down stores the rows of a tile beyond BLOCK_M at the slots of its first ones",
    module="down_tile",
    find="            first_tail,\n            end_row,\n            columns,",
    replacement="            first_row,\n            end_row,\n            columns,",
    bug_class="indexing",
    devices=_DEVICES_WITH_TAIL,
)
kernel_fault(
    "kernel_last_tile_ends_after_block_m",
    "an expert's last tile ends after BLOCK_M rows, and those beyond have no other",
    module="schedule",
    find="tl.where(tile < tiles - 1, first_row_of_tile + block_m, end_row)",
    replacement="tl.minimum(first_row_of_tile + block_m, end_row)",
    bug_class="schedule",
    devices=_DEVICES_WITH_TAIL,
)
kernel_fault(
    "kernel_tile_before_the_last_ends_with_its_group",
    "the tile before an expert's last one takes in that one's rows, and is too high for any height",
    module="schedule",
    find="tl.where(tile < tiles - 1,",
    replacement="tl.where(tile < tiles - 2,",
    bug_class="schedule",
)
kernel_fault(
    "kernel_few_rows_get_no_tile",
    "an expert with no more rows than a last tile may have beyond BLOCK_M gets no tile",
    module="schedule",
    find="tl.maximum(total - tail, tl.minimum(total, 1))",
    replacement="tl.maximum(total - tail, 0)",
    bug_class="schedule",
    devices=_DEVICES_WITH_TAIL,
)
kernel_fault(
    "kernel_last_tile_one_row_too_high",
    "an expert's last tile may have one row more than the greatest height",
    module="schedule",
    find="tl.maximum(total - tail, tl.minimum(total, 1))",
    replacement="tl.maximum(total - tail - 1, tl.minimum(total, 1))",
    bug_class="schedule",
)
kernel_fault(
    "kernel_tail_of_another_config",
    "the schedule lets an expert's last tile have BLOCK_M rows more, which no height holds",
    module="eager",
    find="tail=tiles.tail",
    replacement="tail=tiles.block_m",
    bug_class="configs",
)
kernel_fault(
    "kernel_down_surplus_programs_run",
    "down's programs that have no tile are not turned away",
    module="down",
    find="if program < num_tiles * column_tiles:",
    replacement="if program < max_tiles * column_tiles:",
    bug_class="memory",
)
kernel_fault(
    "kernel_down_programs_ordered_for_worst_case",
    "the last group of down's programs is taken to be as high as in the worst case",
    module="down",
    find="tile_of_program(program, num_tiles, column_tiles, TILE[2])",
    replacement="tile_of_program(program, max_tiles, column_tiles, TILE[2])",
    bug_class="schedule",
)
kernel_fault(
    "kernel_other_tiles_over_tall_ones",
    "experts without a tall last tile have their tiles listed from the first place on, too",
    module="schedule",
    find="tl.sum(tall_tiles) + tl.cumsum(other_tiles, axis=0)",
    replacement="tl.cumsum(other_tiles, axis=0)",
    bug_class="schedule",
    devices=_DEVICES_WITH_TAIL,
)
