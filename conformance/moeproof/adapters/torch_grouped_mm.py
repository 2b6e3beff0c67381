"""Sorted tokens and ``torch.nn.functional.grouped_mm``, torch's own grouped GEMM."""

from __future__ import annotations

import torch
from torch.nn import functional

from moeproof.case import Case, Layout
from moeproof.case_id import AnyCase
from moeproof.implementation import Capabilities, Implementation

if not hasattr(functional, "grouped_mm"):
    raise ImportError(
        f"torch.nn.functional.grouped_mm needs torch >= 2.10, got {torch.__version__}"
    )

_STRIDE_BYTES = 16
_MAX_GROUPS = 1024


def fused_experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
) -> torch.Tensor:
    """(T, H): slots sorted by expert, two grouped products, each token's weighted sum in fp32."""
    num_experts, top_k = gate_up_proj.shape[0], topk_ids.shape[1]
    flat = topk_ids.reshape(-1)
    masked = (flat < 0) | (flat >= num_experts)
    by_expert, order = flat.masked_fill(masked, num_experts).sort(stable=True)
    experts = torch.arange(num_experts, dtype=flat.dtype, device=flat.device)
    ends = torch.searchsorted(by_expert, experts, right=True).int()
    rows = hidden_states[order // top_k]
    gate, up = functional.grouped_mm(rows, gate_up_proj.mT, offs=ends).chunk(2, dim=1)
    by_slot = functional.grouped_mm(functional.silu(gate) * up, down_proj.mT, offs=ends)
    outputs = torch.empty_like(by_slot)
    outputs[order] = by_slot
    # Rows past the last group are left unwritten by grouped_mm.
    by_token = outputs.masked_fill(masked[:, None], 0.0).view(-1, top_k, hidden_states.shape[1])
    return (by_token.float() * topk_weights[..., None]).sum(dim=1).to(hidden_states.dtype)


def _unsupported(case: AnyCase) -> str | None:
    """grouped_mm's own limits: strides are multiples of 16 bytes; on CUDA at most 1024 groups."""
    if not isinstance(case, Case):
        return None
    problem = case.problem
    if problem.num_experts > _MAX_GROUPS:
        return f"{problem.num_experts} groups are more than {_MAX_GROUPS}"
    for name, size in (("H", problem.hidden_size), ("I", problem.intermediate_size)):
        row = size * problem.format.numpy_dtype.itemsize
        if row % _STRIDE_BYTES:
            return f"rows of {name} = {size} elements are no multiple of {_STRIDE_BYTES} bytes"
    return None


# Capture works in bf16 alone: torch 2.11 copies the offsets of other dtypes to the CPU.
implementation = Implementation(
    name="torch_grouped_mm",
    fused_experts=fused_experts,
    capabilities=Capabilities(
        # On CUDA grouped_mm refuses a start that is not aligned to 16 bytes.
        layouts=frozenset({Layout.CONTIGUOUS, Layout.TRANSPOSED}),
        masked_ids=True,
        deterministic=True,
        unsupported=_unsupported,
    ),
    version=torch.__version__,
)
