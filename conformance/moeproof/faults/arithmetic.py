"""Faults in the arithmetic of the matrix products and of the roundings."""

from __future__ import annotations

import torch

from moeproof.faults.fault import expert_fault
from moeproof.faults.rounding import significant_bits, ties_away, truncated
from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import Call, Tensor


@expert_fault("accumulate", "the products past the last multiple of 16 are lost", bug_class="tile")
def tail_of_16_lost(call: Call, products: Tensor) -> Tensor:
    length = products.shape[-1]
    return right.accumulate(call, products[..., : max(1, length // 16 * 16)])


@expert_fault("accumulate", "the last product of a sum is lost", bug_class="tile")
def last_product_lost(call: Call, products: Tensor) -> Tensor:
    return right.accumulate(call, products[..., : max(1, products.shape[-1] - 1)])


@expert_fault(
    "accumulate",
    "a program's second tile of 16 columns starts from the sums of its first",
    bug_class="compiler",
    stands_for=("triton-lang/triton#10821",),
)
def accumulator_not_cleared(call: Call, products: Tensor) -> Tensor:
    sums = right.accumulate(call, products)
    left = torch.zeros_like(sums)
    left[:, 16:32] = sums[:, :16][:, : sums[:, 16:32].shape[1]]
    return sums + left


@expert_fault(
    "accumulate",
    "a pipelined loop takes its last but one tile of 16 products twice and never its last",
    bug_class="compiler",
    stands_for=("ROCm/aiter#4163",),
)
def pipeline_repeats_a_tile(call: Call, products: Tensor) -> Tensor:
    tiles = list(products.split(16, dim=-1))
    if len(tiles) > 1:
        tiles[-1] = tiles[-2]
    return right.accumulate(call, torch.cat(tiles, dim=-1))


@expert_fault(
    "accumulate",
    "with fp16 storage, partial sums are fp16 and overflow",
    bug_class="precision",
    stands_for=("vllm-project/vllm#33972",),
)
def fp16_partial_sums(call: Call, products: Tensor) -> Tensor:
    if call.dtype is not torch.float16:
        return right.accumulate(call, products)
    return _rounded_partial_sums(products, torch.float16, length=1)


@expert_fault(
    "accumulate", "partial sums are rounded to storage after every 16 products",
    bug_class="precision",
)  # fmt: skip
def storage_partial_sums_of_16(call: Call, products: Tensor) -> Tensor:
    return _rounded_partial_sums(products, call.dtype, length=16)


@expert_fault(
    "accumulate", "partial sums are rounded to storage after every 128 products",
    bug_class="precision",
)  # fmt: skip
def storage_partial_sums_of_128(call: Call, products: Tensor) -> Tensor:
    return _rounded_partial_sums(products, call.dtype, length=128)


def _rounded_partial_sums(products: Tensor, dtype: torch.dtype, *, length: int) -> Tensor:
    total = products.new_zeros(products.shape[:-1])
    for part in products.split(length, dim=-1):
        total = (total + part.sum(dim=-1)).to(dtype).float()
    return total


@expert_fault(
    "multiply",
    "with fp32 storage, operands are cut to tf32",
    bug_class="precision",
    stands_for=("triton-lang/triton#10176",),
)
def tf32_operands(call: Call, rows: Tensor, weights: Tensor) -> Tensor:
    return right.multiply(call, significant_bits(rows, 11), significant_bits(weights, 11))


@expert_fault(
    "multiply",
    "with bf16 storage, each product is cut to bf16",
    bug_class="precision",
    stands_for=("triton-lang/triton#11217",),
)
def products_truncated(call: Call, rows: Tensor, weights: Tensor) -> Tensor:
    products = right.multiply(call, rows, weights)
    return significant_bits(products, 8) if call.dtype is torch.bfloat16 else products


@expert_fault("multiply", "subnormal operands are taken as zero", bug_class="precision")
def subnormals_flushed(call: Call, rows: Tensor, weights: Tensor) -> Tensor:
    smallest = torch.finfo(call.dtype).tiny
    rows, weights = (
        torch.where(operand.abs() < smallest, 0.0, operand) for operand in (rows, weights)
    )
    return right.multiply(call, rows, weights)


@expert_fault("store_intermediate", "the intermediate values are cut", bug_class="precision")
def intermediate_truncated(call: Call, values: Tensor) -> Tensor:
    return truncated(values, call.dtype)


@expert_fault(
    "store_intermediate", "the intermediate values are bf16 whatever the storage",
    bug_class="precision",
)  # fmt: skip
def intermediate_always_bf16(call: Call, values: Tensor) -> Tensor:
    return values.to(torch.bfloat16).to(call.dtype)


@expert_fault(
    "store_intermediate", "the intermediate values pass through fp16 and overflow",
    bug_class="precision",
    stands_for=("vllm-project/vllm#33972",),
)  # fmt: skip
def intermediate_through_fp16(call: Call, values: Tensor) -> Tensor:
    return values.to(torch.float16).to(call.dtype)


@expert_fault(
    "store_intermediate", "the intermediate values saturate at fp16's largest",
    bug_class="precision",
    stands_for=("vllm-project/vllm#33972",),
)  # fmt: skip
def intermediate_saturates(call: Call, values: Tensor) -> Tensor:
    return values.clamp(-65504.0, 65504.0).to(call.dtype)


@expert_fault(
    "store_intermediate", "intermediate values below fp16's smallest are lost",
    bug_class="precision",
)  # fmt: skip
def intermediate_underflows(call: Call, values: Tensor) -> Tensor:
    return torch.where(values.abs() < 2.0**-24, 0.0, values).to(call.dtype)


@expert_fault("store_output", "the output is cut instead of rounded", bug_class="precision")
def output_truncated(call: Call, total: Tensor) -> Tensor:
    return truncated(total, call.dtype)


@expert_fault(
    "store_output", "ties of the output are rounded away from zero", bug_class="precision"
)
def output_ties_away(call: Call, total: Tensor) -> Tensor:
    return ties_away(total, call.dtype)
