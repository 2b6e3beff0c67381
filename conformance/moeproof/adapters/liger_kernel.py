"""The fused MoE of Liger Kernel, called as its patched transformers experts call it."""

from __future__ import annotations

import os
from importlib.metadata import version

import torch

from moeproof.case import Layout
from moeproof.case_id import AnyCase
from moeproof.implementation import Capabilities, Implementation

# Read when liger_kernel is imported. Its tuner would compile 32 variants of each kernel for every
# pair of H and I; without it there is one.
os.environ.setdefault("LIGER_FUSED_MOE_AUTOTUNE", "0")

try:
    from liger_kernel.ops import LigerFusedMoEFunction  # type: ignore[import-not-found]
except ImportError as error:
    raise ImportError(f"liger-kernel >= 0.8 is needed: {error}") from error


def fused_experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
) -> torch.Tensor:
    """(T, H) from Liger's autograd function."""
    output = LigerFusedMoEFunction.apply(
        hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights
    )
    assert isinstance(output, torch.Tensor)
    return output


def _unsupported(case: AnyCase) -> str | None:
    if os.environ.get("TRITON_INTERPRET") == "1" and case.problem.dtype == "bf16":
        return "Triton's interpreter multiplies the bit patterns of bf16 tiles"
    return None


implementation = Implementation(
    name="liger_kernel",
    fused_experts=fused_experts,
    capabilities=Capabilities(
        layouts=frozenset(Layout), deterministic=True, subnormals=True, unsupported=_unsupported
    ),
    version=version("liger-kernel"),
)
