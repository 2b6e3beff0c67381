"""The fused MoE of FlagGems, a Triton kernel descended from vLLM's. It needs a GPU."""

from __future__ import annotations

from importlib.metadata import version

import torch

from moeproof.implementation import Capabilities, Implementation

try:
    import flag_gems  # type: ignore[import-not-found]
except (ImportError, RuntimeError) as error:  # RuntimeError: there is no GPU
    raise ImportError(f"flag-gems >= 5 and a GPU are needed: {error}") from error


def fused_experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
) -> torch.Tensor:
    """(T, H) from flag_gems, with an expert map where some ids are masked.

    The map is vLLM's way of expert parallelism: ids are global, and those of other ranks' experts
    are mapped to -1. Masked ids become one more global expert that lies elsewhere.
    """
    num_experts = gate_up_proj.shape[0]
    masked = (topk_ids < 0) | (topk_ids >= num_experts)
    arguments = {}
    if masked.any():
        local = torch.arange(num_experts + 1, dtype=torch.int32, device=topk_ids.device)
        arguments = {
            "global_num_experts": num_experts + 1,
            "expert_map": local.masked_fill(local == num_experts, -1),
        }
    output = flag_gems.fused_experts_impl(
        hidden_states,
        gate_up_proj,
        down_proj,
        topk_weights,
        topk_ids.masked_fill(masked, num_experts),
        **arguments,
    )
    assert isinstance(output, torch.Tensor)
    return output


implementation = Implementation(
    name="flag_gems",
    fused_experts=fused_experts,
    capabilities=Capabilities(masked_ids=True, deterministic=True, subnormals=True),
    version=version("flag-gems"),
)
