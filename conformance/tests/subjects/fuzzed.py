"""Right implementations, but for what takes a fuzzer to reach."""

from __future__ import annotations

import os

import torch

from moeproof.adapters.torch_eager import fused_experts


def aborts_on_an_idle_expert(*arguments: torch.Tensor) -> torch.Tensor:
    """Abort if some expert between two busy ones has no token."""
    busy = arguments[3][arguments[3] >= 0].unique()
    if len(busy) and len(busy) <= int(busy[-1] - busy[0]):
        os.abort()
    return fused_experts(*arguments)


def hangs_past_16_rows(*arguments: torch.Tensor) -> torch.Tensor:
    """Hang if some expert has more than 16 rows."""
    counts = arguments[3][arguments[3] >= 0].unique(return_counts=True)[1]
    while len(counts) and int(counts.max()) > 16:
        pass
    return fused_experts(*arguments)


_LARGEST = 0


def spoiled_by_a_larger_call(*arguments: torch.Tensor) -> torch.Tensor:
    """Wrong on one token if an earlier call had more than 20."""
    global _LARGEST
    tokens = len(arguments[0])
    _LARGEST = max(_LARGEST, tokens)
    right = fused_experts(*arguments)
    return right * 2 if tokens == 1 and _LARGEST > 20 else right


def raises_on_odd_widths(*arguments: torch.Tensor) -> torch.Tensor:
    """Raise for an odd intermediate size one exception, for an odd hidden size another."""
    if arguments[2].shape[2] % 2:
        raise ValueError("intermediate_size must be even")
    if arguments[0].shape[1] % 2:
        raise RuntimeError("no tile is so wide")
    return fused_experts(*arguments)
