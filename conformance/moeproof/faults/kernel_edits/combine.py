"""Edits of the weighted sum over a token's slots, and of the call around the kernels."""

from __future__ import annotations

from moeproof.faults.kernel_edits.edit import kernel_fault

kernel_fault(
    "kernel_last_slot_not_added",
    "the sum over a token's slots ends one early",
    module="combine",
    find="tl.range(0, TOP_K, loop_unroll_factor=UNROLL)",
    replacement="tl.range(0, TOP_K - 1, loop_unroll_factor=UNROLL)",
    bug_class="combine",
)
kernel_fault(
    "kernel_slots_past_the_eighth_not_added",
    "slots past the eighth, the last of an unrolled step, are not added",
    module="combine",
    find="tl.range(0, TOP_K, loop_unroll_factor=UNROLL)",
    replacement="tl.range(0, UNROLL, loop_unroll_factor=UNROLL)",
    bug_class="combine",
    stands_for=("vllm-project/vllm#46406",),
)
kernel_fault(
    "kernel_combine_adds_minus_one",
    "the sum reads and adds slots of id -1, which nobody has written",
    module="combine",
    find="routed = (expert >= 0) & (expert < NUM_EXPERTS)",
    replacement="routed = expert < NUM_EXPERTS",
    bug_class="memory",
    stands_for=("ROCm/aiter#4636", "vllm-project/vllm#46408"),
)
kernel_fault(
    "kernel_combine_adds_id_e",
    "the sum reads and adds slots of id E, which nobody has written",
    module="combine",
    find="(expert < NUM_EXPERTS)",
    replacement="(expert <= NUM_EXPERTS)",
    bug_class="memory",
    stands_for=("ROCm/aiter#4636",),
)
kernel_fault(
    "kernel_masked_slot_times_zero",
    "masked slots are read, and multiplied by a weight of zero",
    module="combine",
    find="y = to_float32(tl.load(y_ptrs, mask=routed[:, None] & is_column, other=0.0))",
    replacement="y = to_float32(tl.load(y_ptrs, mask=is_token[:, None] & is_column, other=0.0))",
    bug_class="memory",
    stands_for=("vllm-project/vllm#20167", "pytorch/pytorch#154557"),
)
kernel_fault(
    "kernel_weights_applied_twice",
    "each slot's output is multiplied by its routing weight twice",
    module="combine",
    find="tl.broadcast_to(weight[:, None],",
    replacement="tl.broadcast_to((weight * weight)[:, None],",
    bug_class="weights",
    stands_for=("vllm-project/vllm#45037",),
)
kernel_fault(
    "kernel_weights_of_next_slot",
    "the weights of a token's slots are those of the slots after them",
    module="combine",
    find="token * stride_wt + step * stride_wk",
    replacement="token * stride_wt + (step + 1) % TOP_K * stride_wk",
    bug_class="weights",
    stands_for=("vllm-project/vllm#48895",),
)
kernel_fault(
    "kernel_weights_by_strides_of_ids",
    "routing weights are read by the strides of topk_ids",
    module="combine",
    find="token * stride_wt + step * stride_wk",
    replacement="token * stride_it + step * stride_ik",
    bug_class="layout",
    stands_for=("vllm-project/vllm#16198",),
)
kernel_fault(
    "kernel_slots_of_one_k_together",
    "the sum takes the rows of all tokens' first slots to lie together",
    module="combine",
    find="(token * TOP_K + step)[:, None]",
    replacement="(step * num_tokens + token)[:, None]",
    bug_class="indexing",
)
kernel_fault(
    "kernel_output_row_past_the_last",
    "the mask of the output's rows takes in one row past the last",
    module="combine",
    find="is_token = token < num_tokens",
    replacement="is_token = token <= num_tokens",
    bug_class="memory",
)
kernel_fault(
    "kernel_output_column_past_the_last",
    "the mask of the output's columns takes in the next row's first",
    module="combine",
    find="is_column = columns[None, :] < hidden_size",
    replacement="is_column = columns[None, :] <= hidden_size",
    bug_class="tile",
    stands_for=("huggingface/kernels-community#1153",),
)
kernel_fault(
    "kernel_output_truncated",
    "the sum over the slots is cut to bf16's bits instead of rounded",
    module="combine",
    find="round_to(total, out_ptr.dtype.element_ty)",
    replacement="round_to(\n"
    "            (total.to(tl.uint32, bitcast=True) & 0xFFFF0000).to(tl.float32, bitcast=True),\n"
    "            out_ptr.dtype.element_ty,\n"
    "        )",
    bug_class="precision",
    stands_for=("triton-lang/triton#11217",),
)
kernel_fault(
    "kernel_empty_batch_raises",
    "an empty batch divides by zero",
    module="eager",
    find="return hidden_states.new_empty(hidden_states.shape)",
    replacement="return hidden_states * (1 // len(hidden_states))",
    bug_class="batch",
    stands_for=("sgl-project/sglang#22455",),
)
kernel_fault(
    "kernel_arguments_not_checked",
    "the arguments of the experts are not checked",
    module="eager",
    find="check_experts_arguments(*tensors)",
    replacement="pass",
    bug_class="validation",
)
