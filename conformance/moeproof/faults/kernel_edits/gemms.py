"""Edits of the two grouped GEMMs and of the activation between them."""

from __future__ import annotations

from moeproof.checks.check import GPU_DEVICES
from moeproof.faults.kernel_edits.edit import kernel_fault

kernel_fault(
    "kernel_gate_up_tail_missing",
    "the loop over K of gate and up leaves out the last, partial tile",
    module="gate_up_tile",
    find="tl.range(0, hidden_size, BLOCK_K,",
    replacement="tl.range(0, hidden_size // BLOCK_K * BLOCK_K, BLOCK_K,",
    bug_class="tile",
    stands_for=("triton-lang/triton#630",),
)
kernel_fault(
    "kernel_gate_up_tail_one_too_long",
    "the mask over K of gate and up takes in one column of the next row",
    module="gate_up_tile",
    find="inside = first_k + k < hidden_size",
    replacement="inside = first_k + k <= hidden_size",
    bug_class="tile",
    stands_for=("triton-lang/triton#630", "huggingface/kernels-community#1158"),
)
kernel_fault(
    "kernel_gate_up_tail_read_unmasked",
    "hidden states are read past H and multiplied by the zeros of the masked weights",
    module="gate_up_tile",
    find="tl.load(x_ptrs, mask=k[:, None] < hidden_size, other=0.0)",
    replacement="tl.load(x_ptrs)",
    bug_class="tile",
    stands_for=("huggingface/kernels-community#1158",),
)
kernel_fault(
    "kernel_gate_up_rows_one_too_many",
    "the mask of gate and up's rows takes in one row after the tile",
    module="gate_up_tile",
    find="stored = rows < end_row",
    replacement="stored = rows <= end_row",
    bug_class="tile",
)
kernel_fault(
    "kernel_gate_up_rows_one_too_few",
    "the mask of gate and up's rows leaves out the tile's last row",
    module="gate_up_tile",
    find="stored = rows < end_row",
    replacement="stored = rows < end_row - 1",
    bug_class="tile",
    stands_for=("vllm-project/vllm-xpu-kernels#453",),
)
kernel_fault(
    "kernel_gate_up_overhang_stored",
    "columns past I are stored: over the next row",
    module="gate_up_tile",
    find="stored = stored & (columns < intermediate_size)",
    replacement="stored = stored & (columns < intermediate_size + 1)",
    bug_class="tile",
    stands_for=("huggingface/kernels-community#1158", "huggingface/kernels-community#1153"),
)
kernel_fault(
    "kernel_gate_up_token_offset_32_bit",
    "token * stride is computed in 32 bits",
    module="gate_up_tile",
    find="tokens[None, :] * stride_xt",
    replacement="tokens.to(tl.int32)[None, :] * stride_xt.to(tl.int32)",
    bug_class="index width",
    stands_for=("sgl-project/sglang#4727", "vllm-project/vllm#34279"),
)
kernel_fault(
    "kernel_gate_up_expert_offset_32_bit",
    "expert * stride of gate_up_proj is computed in 32 bits",
    module="gate_up_tile",
    find="+ expert.to(tl.int64) * stride_we",
    replacement="+ expert * stride_we.to(tl.int32)",
    bug_class="index width",
    stands_for=("linkedin/Liger-Kernel#1296",),
)
kernel_fault(
    "kernel_gate_up_strides_swapped",
    "the strides of gate_up_proj's rows and columns change places",
    module="gate_up_tile",
    find="weight_rows.to(tl.int64)[:, None] * stride_wn\n"
    "            + k.to(tl.int64)[None, :] * stride_wk",
    replacement="weight_rows.to(tl.int64)[:, None] * stride_wk\n"
    "            + k.to(tl.int64)[None, :] * stride_wn",
    bug_class="layout",
    stands_for=("unslothai/unsloth-zoo#849",),
)
kernel_fault(
    "kernel_up_offset_assumes_rows_without_gaps",
    "the rows of up are looked for I * H elements after those of gate",
    module="gate_up_tile",
    find="tl.cast(intermediate_size, tl.int64) * stride_wn",
    replacement="tl.cast(intermediate_size, tl.int64) * hidden_size",
    bug_class="layout",
)
kernel_fault(
    "kernel_gate_and_up_pointers_swapped",
    "gate is computed from up's weights and up from gate's",
    module="gate_up_tile",
    find="swiglu(gate, up)",
    replacement="swiglu(up, gate)",
    bug_class="layout",
    stands_for=("vllm-project/vllm#29273",),
)
kernel_fault(
    "kernel_up_from_gate_weights",
    "both accumulators get the gate's weights",
    module="gate_up_tile",
    find="up = dot_accumulate(up_weight, x, up, ALLOW_TF32)",
    replacement="up = dot_accumulate(gate_weight, x, up, ALLOW_TF32)",
    bug_class="compiler",
    stands_for=("triton-lang/triton#10821",),
)
kernel_fault(
    "kernel_gate_up_one_accumulator",
    "both dots go into one accumulator",
    module="gate_up_tile",
    find="gate = dot_accumulate(gate_weight, x, gate, ALLOW_TF32)",
    replacement="gate = up = dot_accumulate(gate_weight, x, up, ALLOW_TF32)",
    bug_class="compiler",
    stands_for=("triton-lang/triton#10821",),
)
kernel_fault(
    "kernel_gate_accumulates_in_16_bits",
    "the gate's accumulator is rounded to storage after every tile of K",
    module="gate_up_tile",
    find="gate = dot_accumulate(gate_weight, x, gate, ALLOW_TF32)",
    replacement="gate = dot_accumulate(gate_weight, x, gate, ALLOW_TF32)"
    ".to(h_ptr.dtype.element_ty).to(tl.float32)",
    bug_class="precision",
    stands_for=("vllm-project/vllm#33972",),
)
kernel_fault(
    "kernel_intermediate_truncated",
    "the intermediate values are cut to bf16's bits instead of rounded",
    module="gate_up_tile",
    find="swiglu(gate, up)",
    replacement="(swiglu(gate, up).to(tl.uint32, bitcast=True) & 0xFFFF0000)"
    ".to(tl.float32, bitcast=True)",
    bug_class="precision",
    stands_for=("triton-lang/triton#11217",),
)
kernel_fault(
    "kernel_slot_taken_for_token",
    "a slot's number is used as its token's",
    module="gate_up_tile",
    find="load_slots(schedule_ptr, rows, max_tiles) // TOP_K",
    replacement="load_slots(schedule_ptr, rows, max_tiles)",
    bug_class="schedule",
)
kernel_fault(
    "kernel_gate_up_reads_slots_in_order",
    "rows are gathered in the order of the batch and not of the schedule",
    module="gate_up_tile",
    find="load_slots(schedule_ptr, rows, max_tiles) // TOP_K",
    replacement="rows // TOP_K",
    bug_class="schedule",
)
kernel_fault(
    "kernel_gate_up_next_expert",
    "gate and up of the neighbouring expert are used where there is one",
    module="gate_up_tile",
    find="+ expert.to(tl.int64) * stride_we",
    replacement="+ tl.maximum(expert - 1, 0).to(tl.int64) * stride_we",
    bug_class="indexing",
    stands_for=("ROCm/aiter#2478",),
)
kernel_fault(
    "kernel_columns_step_by_block_k",
    "the second tile of columns starts at BLOCK_K instead of BLOCK_N",
    module="gate_up_tile",
    find="columns = column * BLOCK_N + tl.arange(0, BLOCK_N)\n    k = ",
    replacement="columns = column * BLOCK_K + tl.arange(0, BLOCK_N)\n    k = ",
    bug_class="configs",
    stands_for=("ROCm/aiter#3933",),
)
kernel_fault(
    "kernel_down_tail_missing",
    "the loop over K of down leaves out the last, partial tile",
    module="down_tile",
    find="tl.range(0, intermediate_size, BLOCK_K,",
    replacement="tl.range(0, intermediate_size // BLOCK_K * BLOCK_K, BLOCK_K,",
    bug_class="tile",
    stands_for=("triton-lang/triton#630", "triton-lang/triton#10927"),
)
kernel_fault(
    "kernel_down_first_tile_missing",
    "the loop over K of down starts at its second tile",
    module="down_tile",
    find="tl.range(0, intermediate_size, BLOCK_K,",
    replacement="tl.range(BLOCK_K, intermediate_size, BLOCK_K,",
    bug_class="compiler",
    stands_for=("ROCm/aiter#4163",),
)
kernel_fault(
    "kernel_down_tail_one_too_long",
    "the mask over K of down takes in the next row's first intermediate value",
    module="down_tile",
    find="inside = first_k + k < intermediate_size",
    replacement="inside = first_k + k <= intermediate_size",
    bug_class="tile",
    stands_for=("huggingface/kernels-community#1158",),
)
kernel_fault(
    "kernel_down_overhang_stored",
    "a column past H is stored: over the next slot's first",
    module="down_tile",
    find="stored = stored & (columns[:, None] < hidden_size)",
    replacement="stored = stored & (columns[:, None] <= hidden_size)",
    bug_class="tile",
    stands_for=("huggingface/kernels-community#1153",),
)
kernel_fault(
    "kernel_down_expert_offset_32_bit",
    "expert * stride of down_proj is computed in 32 bits",
    module="down_tile",
    find="+ expert.to(tl.int64) * stride_we",
    replacement="+ expert * stride_we.to(tl.int32)",
    bug_class="index width",
    stands_for=("linkedin/Liger-Kernel#1296",),
)
kernel_fault(
    "kernel_down_rows_in_schedule_order",
    "down stores its rows in the order of the schedule and not at their slots",
    module="down_tile",
    find="y_ptr + slots.to(tl.int64)[None, :] * hidden_size",
    replacement="y_ptr + rows.to(tl.int64)[None, :] * hidden_size",
    bug_class="schedule",
)
kernel_fault(
    "kernel_down_weight_rows_unclamped_to_expert",
    "the second tile of columns reads the first one's weights again",
    module="down_tile",
    find="weight_rows = columns if EVEN_N else tl.minimum(columns, hidden_size - 1)",
    replacement="weight_rows = tl.arange(0, BLOCK_N)",
    bug_class="indexing",
)
kernel_fault(
    "kernel_surplus_program_runs",
    "one program of down past the last tile runs",
    module="down",
    find="if program < num_tiles * column_tiles:",
    replacement="if program <= num_tiles * column_tiles:",
    bug_class="memory",
    stands_for=("sgl-project/sglang#3339",),
)
kernel_fault(
    "kernel_silu_overflows",
    "exp(g) / (1 + exp(g)) overflows for large gates",
    module="activation",
    find="sigmoid = tl.where(gate >= 0, 1.0, decay) / (1.0 + decay)",
    replacement="sigmoid = tl.exp(gate) / (1.0 + tl.exp(gate))",
    bug_class="activation",
    stands_for=("antirez/ds4#498",),
)
kernel_fault(
    "kernel_silu_of_absolute_gate",
    "the sigmoid of a negative gate is that of its absolute value",
    module="activation",
    find="tl.where(gate >= 0, 1.0, decay)",
    replacement="1.0",
    bug_class="activation",
)
kernel_fault(
    "kernel_tf32_instead_of_ieee",
    "float32 operands are rounded to tf32 although nobody allowed it",
    module="numerics",
    find='precision: tl.constexpr = "tf32" if ALLOW_TF32 else "ieee"',
    replacement='precision: tl.constexpr = "tf32"',
    bug_class="precision",
    stands_for=("triton-lang/triton#10176",),
    devices=GPU_DEVICES | {"gfx942"},  # of the emulated ones, the only one with tf32
)
