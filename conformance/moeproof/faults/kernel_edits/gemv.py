"""Edits of the matrix-vector products that serve a few tokens."""

from __future__ import annotations

from moeproof.faults.kernel_edits.edit import kernel_fault

kernel_fault(
    "kernel_gemv_masked_slot_times_zero",
    "with few tokens, masked slots are read, and multiplied by a weight of zero",
    module="gemv",
    find="length = tl.where(routed, INTERMEDIATE_SIZE, 0)",
    replacement="length = INTERMEDIATE_SIZE",
    bug_class="memory",
    stands_for=("vllm-project/vllm#20167", "pytorch/pytorch#154557"),
)
kernel_fault(
    "kernel_gemv_rows_past_i_stored",
    "with few tokens, the last tile of h is stored whole",
    module="gemv",
    find="mask=columns < INTERMEDIATE_SIZE,",
    replacement="mask=columns >= 0,",
    bug_class="memory",
)
kernel_fault(
    "kernel_gemv_one_past_h_multiplied",
    "with few tokens, the sum over H takes one element of the next row with it",
    module="gemv",
    find="inside = first_k + k < HIDDEN_SIZE",
    replacement="inside = first_k + k <= HIDDEN_SIZE",
    bug_class="tile",
)
kernel_fault(
    "kernel_gemv_tail_of_i_missing",
    "with few tokens, the sum over I ends with its last full block",
    module="gemv",
    find="for first_i in range(0, INTERMEDIATE_SIZE, BLOCK_K):",
    replacement="for first_i in range(0, INTERMEDIATE_SIZE // BLOCK_K * BLOCK_K, BLOCK_K):",
    bug_class="tile",
)
kernel_fault(
    "kernel_gemv_up_at_h",
    "with few tokens, up is read H rows after gate, not I",
    module="gemv",
    find="tl.full((), INTERMEDIATE_SIZE, tl.int64) * stride_wn",
    replacement="tl.full((), HIDDEN_SIZE, tl.int64) * stride_wn",
    bug_class="indexing",
)
kernel_fault(
    "kernel_gemv_expert_offset_of_32_bits",
    "with few tokens, the offset of an expert's weights is computed in 32 bits",
    module="gemv",
    find="+ expert.to(tl.int64) * stride_we",
    replacement="+ (expert * stride_we).to(tl.int32)",
    bug_class="index width",
    stands_for=("linkedin/Liger-Kernel#1296",),
)
kernel_fault(
    "kernel_gemv_weights_by_strides_of_ids",
    "with few tokens, routing weights are read by the strides of topk_ids",
    module="gemv",
    find="token * stride_rt + slot_step * stride_rk",
    replacement="token * stride_it + slot_step * stride_ik",
    bug_class="layout",
    stands_for=("vllm-project/vllm#16198",),
)
kernel_fault(
    "kernel_gemv_first_tokens_intermediate",
    "with few tokens, every token takes the first one's h",
    module="gemv",
    find="h_ptr + (token * TOP_K + slot_step) * INTERMEDIATE_SIZE + i",
    replacement="h_ptr + slot_step * INTERMEDIATE_SIZE + i",
    bug_class="indexing",
)
