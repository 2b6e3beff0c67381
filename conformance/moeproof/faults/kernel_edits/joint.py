"""Edits of the kernel that multiplies by gate and up as one block of weights, tokens first."""

from __future__ import annotations

from moeproof.faults.kernel_edits.edit import kernel_fault

_DEVICES = frozenset({"cpu", "cuda"})
"""No config for AMD's architectures has this kernel."""

kernel_fault(
    "kernel_joint_halves_swapped",
    "the first half of a joint block of sums is taken for up and the second for the gate",
    module="joint_gate_up",
    find="gate, up = tl.split(tl.permute(tl.reshape(joint,",
    replacement="up, gate = tl.split(tl.permute(tl.reshape(joint,",
    bug_class="layout",
    stands_for=("vllm-project/vllm#29273",),
    devices=_DEVICES,
)
kernel_fault(
    "kernel_joint_columns_of_gate_and_up_in_turn",
    "a joint block of sums is split as if gate's columns and up's took turns in it",
    module="joint_gate_up",
    find="tl.permute(tl.reshape(joint, (ROWS, 2, BLOCK_N)), (0, 2, 1))",
    replacement="tl.reshape(joint, (ROWS, BLOCK_N, 2))",
    bug_class="layout",
    devices=_DEVICES,
)
kernel_fault(
    "kernel_joint_next_expert",
    "gate and up of the neighbouring expert are used where there is one",
    module="joint_gate_up",
    find="w.load([expert * 2, first_column, first_k])",
    replacement="w.load([tl.maximum(expert - 1, 0) * 2, first_column, first_k])",
    bug_class="indexing",
    stands_for=("ROCm/aiter#2478",),
    devices=_DEVICES,
)
kernel_fault(
    "kernel_joint_columns_step_over_both",
    "the second block of weights starts as many rows down as gate and up have together",
    module="joint_gate_up",
    find="first_column = column * BLOCK_N",
    replacement="first_column = column * 2 * BLOCK_N",
    bug_class="indexing",
    devices=_DEVICES,
)
kernel_fault(
    "kernel_joint_rows_past_block_m_not_stored",
    "the rows of a tile beyond BLOCK_M are multiplied, weights first, and not stored",
    module="tall_gate_up",
    find="store_h(h_ptr, tail_gate, tail_up, rows, end_row,",
    replacement="store_h(h_ptr, tail_gate, tail_up, rows, first_tail,",
    bug_class="tile",
    devices=_DEVICES,
)
kernel_fault(
    "kernel_joint_rows_past_block_m_from_the_first",
    "for its rows beyond BLOCK_M a tile gathers its first ones again",
    module="tall_gate_up",
    find="x_ptr, schedule_ptr, max_tiles, first_tail, end_row",
    replacement="x_ptr, schedule_ptr, max_tiles, first_row, end_row",
    bug_class="indexing",
    devices=_DEVICES,
)
kernel_fault(
    "kernel_joint_tall_tile_without_up",
    "in a tile of more than BLOCK_M rows the gate's weights are taken for up's, too",
    module="tall_gate_up",
    find="w_rows.load([gate_row + intermediate_size, first_k])",
    replacement="w_rows.load([gate_row, first_k])",
    bug_class="layout",
    devices=_DEVICES,
)
kernel_fault(
    "kernel_joint_tall_tile_steps_rows_once",
    "in a tile of more than BLOCK_M rows, those beyond stay at the first step along K",
    module="tall_gate_up",
    find="        tail_ptrs += step\n",
    replacement="",
    bug_class="tile",
    devices=_DEVICES,
)
