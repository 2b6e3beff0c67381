"""Edits of the router's kernel."""

from __future__ import annotations

from functools import partial

from moeproof.faults.kernel_edits.edit import kernel_fault

_router_fault = partial(kernel_fault, module="routing", bug_class="router", entry="route")

_router_fault(
    "kernel_expert_chosen_again",
    "an expert that was chosen stays a candidate",
    find="ranks = tl.where(column[None, :] == best, _LOWEST, ranks)",
    replacement="ranks = tl.where(column[None, :] == best, ranks, ranks)",
    stands_for=("vllm-project/vllm#42608",),
)
_router_fault(
    "kernel_ties_to_higher_id",
    "of equal scores the higher id is chosen",
    find="best = tl.argmax(ranks, axis=1)[:, None]",
    replacement="best = tl.max(tl.where(ranks == tl.max(ranks, axis=1)[:, None], "
    "column[None, :], -1), axis=1)[:, None]",
    stands_for=("vllm-project/vllm#54403",),
)
_router_fault(
    "kernel_negative_logits_reversed",
    "negative values are ranked in the order of their bits",
    find="rank = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)",
    replacement="rank = bits",
)
_router_fault(
    "kernel_minus_zero_below_zero",
    "-0 ranks below +0, so equal scores are not tied",
    find="bits = tl.where(value == 0, 0.0, value).to(tl.int32, bitcast=True)",
    replacement="bits = value.to(tl.int32, bitcast=True)",
    stands_for=("vllm-project/vllm#54403",),
)
_router_fault(
    "kernel_nan_as_no_expert",
    "NaN ranks with the columns past the last expert, which may then be chosen",
    find="return tl.where(value == value, rank, _LOWEST + 1)",
    replacement="return tl.where(value == value, rank, _LOWEST)",
    stands_for=("vllm-project/vllm#39391", "sgl-project/sglang#30079"),
)
_router_fault(
    "kernel_padding_counted_in_softmax",
    "columns past the last expert have a logit of 0 in the sum of the softmax",
    find='mask=is_token & is_expert,\n        other=float("-inf"),',
    replacement="mask=is_token & is_expert,\n        other=0.0,",
    stands_for=("vllm-project/vllm#32058",),
)
_router_fault(
    "kernel_padding_is_an_expert",
    "columns past the last expert may be chosen",
    find="tl.where(is_expert, rank_of(choice if HAS_BIAS else logits), _LOWEST)",
    replacement="tl.where(is_expert, rank_of(choice if HAS_BIAS else logits), 0)",
    stands_for=("vllm-project/vllm#32058",),
)
_router_fault(
    "kernel_columns_taken_for_experts",
    "a column's number is taken for its expert's where groups are padded",
    find="chosen = (chosen // MEMBERS) * GROUP_SIZE + chosen % MEMBERS",
    replacement="chosen = chosen % NUM_EXPERTS",
)
_router_fault(
    "kernel_other_groups_score_zero",
    "other groups' experts get score 0, above negative biased scores",
    find="return tl.where(kept == 1, ranks, _LOWEST)",
    replacement="return tl.where(kept == 1, ranks, 0)",
    stands_for=("sgl-project/sglang#3705", "deepseek-ai/DeepSeek-V3#741"),
)
_router_fault(
    "kernel_group_score_is_maximum",
    "a group's score is its best instead of the sum of its two best",
    find="if GROUP_SIZE > 1:",
    replacement="if GROUP_SIZE < 1:",
    stands_for=("NVIDIA/Megatron-LM#4667",),
)
_router_fault(
    "kernel_group_score_in_bf16",
    "scores of groups are rounded to bf16 and pick other groups",
    find="rank_of(group_score)",
    replacement="rank_of((group_score.to(tl.uint32, bitcast=True) & 0xFFFF0000)"
    ".to(tl.float32, bitcast=True))",
    stands_for=("flagos-ai/FlagGems#4245",),
)
_router_fault(
    "kernel_one_group_too_few",
    "one group fewer takes part",
    find="for _ in range(TOPK_GROUPS):",
    replacement="for _ in range(TOPK_GROUPS - 1):",
)
_router_fault(
    "kernel_bias_in_weights",
    "weights come from the biased logits",
    find="chosen_logits = to_float32(chosen_logits)",
    replacement="chosen_logits = to_float32(chosen_logits)\n"
    "    if HAS_BIAS:\n"
    "        chosen_logits += tl.load(bias_ptr + chosen * stride_b, mask=is_slot, other=0.0)",
    stands_for=("MetaX-MACA/vLLM-metax#270",),
)
_router_fault(
    "kernel_bias_not_used",
    "the bias takes no part in the choice",
    find="choice += to_float32(bias)[None, :]",
    replacement="choice += 0.0 * to_float32(bias)[None, :]",
)
_router_fault(
    "kernel_normalised_over_tokens",
    "sigmoid weights are normalised over the tokens",
    find="weights = tl.where(is_slot, weights, 0.0)\n"
    "            weights = divide_or_zero(weights, tl.sum(weights, axis=1))",
    replacement="weights = tl.where(is_slot, weights, 0.0)\n"
    "            weights = weights / tl.sum(weights, axis=0)[None, :]",
    stands_for=("databricks/megablocks#87",),
)
_router_fault(
    "kernel_normalised_zero_by_zero",
    "weights whose sum underflows to zero become 0/0",
    find="shift = tl.where(largest < -32.0, largest, 0.0)\n"
    "            weights = sigmoid(chosen_logits, shift[:, None])\n"
    "            weights = tl.where(is_slot, weights, 0.0)\n"
    "            weights = divide_or_zero(weights, tl.sum(weights, axis=1))",
    replacement="weights = tl.where(is_slot, sigmoid(chosen_logits, 0.0), 0.0)\n"
    "            weights = weights / tl.sum(weights, axis=1)[:, None]",
    stands_for=("flashinfer-ai/flashinfer#3803", "sgl-project/sglang#31017"),
)
_router_fault(
    "kernel_softmax_not_shifted",
    "the softmax does not subtract the largest logit",
    find="exponentials = tl.exp(logits - largest[:, None])",
    replacement="exponentials = tl.exp(logits)",
)
_router_fault(
    "kernel_scaling_twice",
    "the scaling factor is applied twice",
    find="weights * scaling_factor)",
    replacement="weights * scaling_factor * scaling_factor)",
    stands_for=("vllm-project/vllm#45037",),
)
_router_fault(
    "kernel_logit_strides_ignored",
    "the logits' strides are not looked at",
    find="token.to(tl.int64)[:, None] * stride_lt",
    replacement="token.to(tl.int64)[:, None] * NUM_EXPERTS",
    stands_for=("flashinfer-ai/flashinfer#4713",),
)
_router_fault(
    "kernel_last_row_not_read",
    "the mask of the rows leaves out the last",
    find="is_token = token[:, None] < num_tokens",
    replacement="is_token = token[:, None] < num_tokens - 1",
)
_router_fault(
    "kernel_row_past_the_last_written",
    "the mask of the rows takes in one past the last",
    find="is_token = token[:, None] < num_tokens",
    replacement="is_token = token[:, None] <= num_tokens",
    bug_class="memory",
)
