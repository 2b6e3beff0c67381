"""Edits of the schedule: which rows of which expert each tile works on."""

from __future__ import annotations

from moeproof.checks.check import COMPILED_DEVICES, GPU_DEVICES
from moeproof.faults.kernel_edits.edit import kernel_fault

kernel_fault(
    "kernel_minus_one_not_masked",
    "ids below 0 are not left out of the schedule",
    module="schedule",
    find="tl.where((ids >= 0) & (ids < num_experts), ids, num_experts)",
    replacement="tl.where(ids < num_experts, ids, num_experts)",
    bug_class="masking",
    stands_for=("vllm-project/vllm#46408",),
)
kernel_fault(
    "kernel_past_end_not_masked",
    "ids at and past E are not left out of the schedule",
    module="schedule",
    find="tl.where((ids >= 0) & (ids < num_experts), ids, num_experts)",
    replacement="tl.where(ids >= 0, ids, num_experts)",
    bug_class="masking",
    stands_for=("ROCm/aiter#4636",),
)
kernel_fault(
    "kernel_masked_wraps_to_last_expert",
    "id -1 becomes the last expert",
    module="schedule",
    find="tl.where((ids >= 0) & (ids < num_experts), ids, num_experts)",
    replacement="tl.where(ids < 0, num_experts - 1, tl.where(ids < num_experts, ids, num_experts))",
    bug_class="masking",
    stands_for=("vllm-project/vllm#46408",),
)
kernel_fault(
    "kernel_ids_in_8_bits",
    "ids are kept in eight bits",
    module="schedule",
    find="ids < num_experts), ids, num_experts).to(tl.int32)",
    replacement="ids < num_experts), ids & 255, num_experts).to(tl.int32)",
    bug_class="index width",
    stands_for=("kekzl/imp#2056",),
)
kernel_fault(
    "kernel_ids_strides_ignored",
    "topk_ids' strides are not looked at",
    module="schedule",
    find="ids_ptr + token * stride_t + k * stride_k",
    replacement="ids_ptr + token * TOP_K + k",
    bug_class="layout",
    stands_for=("vllm-project/vllm#16198",),
)
kernel_fault(
    "kernel_partial_tile_lost",
    "the number of tiles of an expert is rounded down",
    module="schedule",
    find="tl.cdiv(tl.maximum(total - tail, tl.minimum(total, 1)), block_m)",
    replacement="tl.maximum(total - tail, tl.minimum(total, 1)) // block_m",
    bug_class="schedule",
    stands_for=("ROCm/aiter#3933",),
)
kernel_fault(
    "kernel_full_group_gets_a_tile_more",
    "an expert with no rows, or with full tiles alone, gets a tile more than it has",
    module="schedule",
    find="tl.cdiv(tl.maximum(total - tail, tl.minimum(total, 1)), block_m)",
    replacement="tl.maximum(total - tail, 0) // block_m + 1",
    bug_class="schedule",
    stands_for=("vllm-project/vllm#35161",),
)
kernel_fault(
    "kernel_last_tile_not_counted",
    "the tile map says one tile less than it holds",
    module="schedule",
    find="tl.store(schedule_ptr, tl.sum(tiles), mask=chunk == 0)",
    replacement="tl.store(schedule_ptr, tl.sum(tiles) - 1, mask=chunk == 0)",
    bug_class="schedule",
    stands_for=("vllm-project/vllm-xpu-kernels#453",),
)
kernel_fault(
    "kernel_second_tile_starts_late",
    "tiles after an expert's first start one row late",
    module="schedule",
    find="first_row_of_tile = first_row + tile * block_m",
    replacement="first_row_of_tile = first_row + tile * (block_m + 1)",
    bug_class="schedule",
)
kernel_fault(
    "kernel_group_ends_one_early",
    "the end of each group's last tile is one row early",
    module="schedule",
    find="first_row_of_tile + block_m, end_row)",
    replacement="first_row_of_tile + block_m, end_row - 1)",
    bug_class="schedule",
)
kernel_fault(
    "kernel_group_ends_at_the_next",
    "each group's last tile is as high as those before it, into the next group",
    module="schedule",
    find="tl.where(tile < tiles - 1, first_row_of_tile + block_m, end_row)",
    replacement="first_row_of_tile + block_m",
    bug_class="schedule",
)
kernel_fault(
    "kernel_tile_of_next_expert",
    "tiles after an expert's first belong to the expert after it",
    module="schedule",
    find="tl.store(entry, bins, mask=exists)",
    replacement="tl.store(entry, tl.where(tile > 0, (bins + 1) % NUM_EXPERTS, bins), mask=exists)",
    bug_class="schedule",
    stands_for=("ROCm/aiter#2478",),
)
kernel_fault(
    "kernel_rank_counts_itself",
    "a slot's rank among its expert's counts the slot itself",
    module="schedule",
    find="(index[:, None] > index[None, :])",
    replacement="(index[:, None] >= index[None, :])",
    bug_class="schedule",
)
kernel_fault(
    "kernel_offsets_not_exclusive",
    "groups start where they end: the prefix sum is not exclusive",
    module="schedule",
    find="first_row = end_row - total",
    replacement="first_row = end_row",
    bug_class="schedule",
)
kernel_fault(
    "kernel_swizzle_needs_whole_groups",
    "the order of the programs is wrong in a group of fewer row tiles",
    module="schedule",
    find="return first + within % height, within // height",
    replacement="return first + within % GROUP_M, within // GROUP_M",
    bug_class="schedule",
    stands_for=("meta-pytorch/applied-ai#25",),
)
kernel_fault(
    "kernel_swizzle_needs_square_grid",
    "row and column of a program change places",
    module="schedule",
    find="return program // column_tiles, program % column_tiles",
    replacement="return program % column_tiles, program // column_tiles",
    bug_class="schedule",
    stands_for=("meta-pytorch/applied-ai#25",),
)
kernel_fault(
    "kernel_histogram_one_bin_short",
    "there is no bin for masked ids where E is a power of two",
    module="schedule",
    find="next_power_of_2(num_experts + 1)",
    replacement="next_power_of_2(num_experts)",
    bug_class="schedule",
    stands_for=("sgl-project/sglang#21610",),
)
kernel_fault(
    "kernel_histogram_from_whatever",
    "the counts of the slots start from whatever the schedule's memory holds",
    module="schedule",
    find="first_row = end_row - total",
    replacement="first_row = end_row - total + tl.load(schedule_ptr) // (1 << 30)",
    bug_class="memory",
    stands_for=("sgl-project/sglang#3339",),
)
kernel_fault(
    "kernel_schedule_of_first_call",
    "the schedule of the first call with these sizes is used for all later ones",
    module="schedule",
    find="return build_schedule",
    replacement="kept = []\n\n"
    "    def first_schedule(topk_ids):\n"
    "        if not kept:\n"
    "            kept.append(build_schedule(topk_ids))\n"
    "        return kept[0]\n\n"
    "    return first_schedule",
    bug_class="stale state",
    stands_for=("deepseek-ai/DeepGEMM#451", "ROCm/aiter#3632"),
)
kernel_fault(
    "kernel_block_m_of_another_config",
    "the schedule is cut for tiles of twice the height that the GEMMs have",
    module="eager",
    find="block_m=tiles.block_m,\n        tail=tiles.tail",
    replacement="block_m=2 * tiles.block_m,\n        tail=tiles.tail",
    bug_class="configs",
    stands_for=("ROCm/aiter#3933",),
)
kernel_fault(
    "kernel_second_block_not_counted",
    "slots past the first block are ranked as if none came before",
    module="schedule",
    find="next_row += tl.histogram(experts, BINS)",
    replacement="next_row += 0",
    bug_class="schedule",
    stands_for=("vllm-project/vllm#12239",),
    devices=GPU_DEVICES,
)
kernel_fault(
    "kernel_earlier_chunks_not_counted",
    "every chunk of slots places its rows as if it were the first",
    module="schedule",
    find="next_row = first_row + earlier",
    replacement="next_row = first_row",
    bug_class="schedule",
    stands_for=("sgl-project/sglang#37663",),
    devices=COMPILED_DEVICES,
)
