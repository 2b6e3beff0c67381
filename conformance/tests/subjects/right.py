"""A right implementation, and one that claims nothing."""

from __future__ import annotations

import torch
from torch.nn import functional

from moeproof import Capabilities


def fused_experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
) -> torch.Tensor:
    """(T, H): token by token and slot by slot, summed in float32."""
    output = torch.zeros(hidden_states.shape, dtype=torch.float32)
    for token in range(topk_ids.shape[0]):
        for expert, weight in zip(topk_ids[token], topk_weights[token], strict=True):
            gate_up = gate_up_proj[expert].float() @ hidden_states[token].float()
            gate, up = gate_up.chunk(2)
            middle = (functional.silu(gate) * up).to(hidden_states.dtype).float()
            output[token] += weight * (down_proj[expert].float() @ middle)
    return output.to(hidden_states.dtype)


class ClaimsNothing:
    """The same function, which claims no dtype at all."""

    fused_experts = staticmethod(fused_experts)
    capabilities = Capabilities(dtypes=frozenset())


claims_nothing = ClaimsNothing()
