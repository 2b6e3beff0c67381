"""Right experts, and the same as another vendor might have them, wrong in one place each."""

from __future__ import annotations

from dataclasses import replace

import torch

from moeproof.implementation import Implementation
from moeproof.variants import VARIANTS, products
from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import RIGHT_EXPERTS, Call, Tensor
from moeproof.variants.variant import CLAIMS


def bf16_truncated(call: Call, values: Tensor) -> Tensor:
    """The intermediate values cut instead of rounded, in bf16 alone."""
    if call.dtype is not torch.bfloat16:
        return right.store_intermediate(call, values)
    bits = values.float().contiguous().view(torch.int32)
    return (bits & -65536).view(torch.float32).to(torch.bfloat16)


def tf32_products(call: Call, rows: Tensor, weights: Tensor) -> Tensor:
    """With fp32 storage, operands cut to tf32."""
    if call.dtype is torch.float32:
        rows, weights = (
            (operand.contiguous().view(torch.int32) & -8192).view(torch.float32)
            for operand in (rows, weights)
        )
    return right.multiply(call, rows, weights)


def _subject(name: str, **steps: object) -> Implementation:
    experts = replace(RIGHT_EXPERTS, **steps)  # type: ignore[arg-type]
    return Implementation(f"vendors.py:{name}", experts.fused_experts, capabilities=CLAIMS)


cuda = _subject("cuda")
other_order = replace(VARIANTS["split_k"].implementation, name="vendors.py:other_order")
truncates_in_bf16 = _subject("truncates_in_bf16", store_intermediate=bf16_truncated)
flushes_subnormals = _subject("flushes_subnormals", multiply=products.flush_subnormals)
uses_tf32 = _subject("uses_tf32", multiply=tf32_products)
