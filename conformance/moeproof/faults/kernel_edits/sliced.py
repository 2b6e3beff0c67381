"""Edits of what splits K between a program's warps where a few low tiles are all there is."""

from __future__ import annotations

from moeproof.faults.kernel_edits.edit import kernel_fault

kernel_fault(
    "kernel_sliced_last_step_of_k_missing",
    "a sliced tile leaves out the steps along K that are not whole",
    module="sliced_product",
    find="tl.range(0, size_k, BLOCK_K,",
    replacement="tl.range(0, size_k // BLOCK_K * BLOCK_K, BLOCK_K,",
    bug_class="tile",
    stands_for=("triton-lang/triton#630",),
)
kernel_fault(
    "kernel_sliced_k_unmasked",
    "the last slices of a sliced tile take what follows the row for a part of it",
    module="sliced_product",
    find="inside = first_k + k < size_k",
    replacement="inside = first_k + k < size_k + BLOCK_K",
    bug_class="tile",
)
kernel_fault(
    "kernel_sliced_slices_overlap",
    "slices begin one element early: neighbours share one, and the last element has none",
    module="sliced_product",
    find="k = tl.arange(0, SLICES)[:, None] * DEPTH +",
    replacement="k = tl.arange(0, SLICES)[:, None] * (DEPTH - 1) +",
    bug_class="indexing",
)
kernel_fault(
    "kernel_sliced_first_slice_only",
    "the slices' sums are not added up: one counts for all",
    module="sliced_product",
    find="return tl.sum(sums, axis=0)",
    replacement="return tl.max(sums, axis=0)",
    bug_class="compiler",
)
kernel_fault(
    "kernel_sliced_gate_and_up_interleaved",
    "gate's and up's rows are told apart by turns instead of by halves",
    module="gate_up_tile",
    find="(index // BLOCK_N) * intermediate_size",
    replacement="(index % 2) * intermediate_size",
    bug_class="layout",
)
kernel_fault(
    "kernel_sliced_parts_of_gate_up_repeated",
    "all programs that share a tile of gate and up compute its first part",
    module="gate_up",
    find="column * PARTS + part",
    replacement="column * PARTS",
    bug_class="schedule",
)
kernel_fault(
    "kernel_sliced_parts_of_down_repeated",
    "all programs that share a tile of down compute its first part",
    module="down",
    find="column * PARTS + part",
    replacement="column * PARTS",
    bug_class="schedule",
)
kernel_fault(
    "kernel_sliced_for_many_tiles",
    "many tiles are sliced, for which the grid has too few programs, and few are whole",
    module="gate_up",
    find="few = num_tiles * column_tiles <= few_up_to",
    replacement="few = num_tiles * column_tiles > few_up_to",
    bug_class="schedule",
)
kernel_fault(
    "kernel_sliced_x_of_the_slot",
    "a sliced tile reads x at the slot's number instead of its token's",
    module="gate_up_tile",
    find="(slots // TOP_K).to(tl.int64) * x_strides[0]",
    replacement="slots.to(tl.int64) * x_strides[0]",
    bug_class="indexing",
)
kernel_fault(
    "kernel_sliced_down_columns_unclamped",
    "a sliced tile of down takes the last columns from the next expert's weights and stores them",
    module="down_tile",
    find="y_ptr, y, schedule_ptr, max_tiles, first_row, end_row, columns, hidden_size, ROWS, False",
    replacement="y_ptr, y, schedule_ptr, max_tiles, first_row, end_row, columns, hidden_size, ROWS,"
    " True",
    bug_class="tile",
)
