"""An engine with a router that sorts a power of two of candidates.

``wrong`` normalises the weights over all candidates it has sorted, and not over the K it returns:
that shows where K is no power of two (vllm-project/vllm#46406).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from moeproof import Capabilities


class WideTopK:
    """``fused_experts`` and ``route``; softmax scores alone."""

    capabilities = Capabilities(router_rules=frozenset({"softmax", "raw", "scale"}))

    def __init__(self, *, keeps_k: bool) -> None:
        self.keeps_k = keeps_k

    def fused_experts(self, hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights):
        output = torch.zeros(hidden_states.shape, dtype=torch.float32)
        for expert in range(len(gate_up_proj)):
            tokens, slots = torch.nonzero(topk_ids == expert, as_tuple=True)
            x = hidden_states[tokens].float()
            gate, up = (x @ gate_up_proj[expert].float().T).chunk(2, dim=1)
            middle = (functional.silu(gate) * up).to(hidden_states.dtype).float()
            y = middle @ down_proj[expert].float().T
            output.index_add_(0, tokens, y * topk_weights[tokens, slots, None])
        return output.to(hidden_states.dtype)

    def route(self, router_logits, top_k, *, renormalize, scaling_factor, **_):
        num_experts = router_logits.shape[1]
        candidates = min(1 << (top_k - 1).bit_length(), num_experts)
        finite = torch.nan_to_num(router_logits.float(), nan=float("-inf"))
        ids = torch.argsort(finite, dim=1, descending=True, stable=True)[:, :candidates]
        logits = router_logits.float()
        if renormalize:
            logits = logits.gather(1, ids[:, :top_k] if self.keeps_k else ids)
            weights = self.softmax(logits)[:, :top_k]
        else:
            weights = self.softmax(logits).gather(1, ids[:, :top_k])
        return ids[:, :top_k].int(), weights * scaling_factor

    @staticmethod
    def softmax(logits):
        """Over the last dimension; zeros for a row that is -Inf throughout."""
        weights = logits.softmax(dim=1)
        return torch.where((logits == float("-inf")).all(dim=1, keepdim=True), 0.0, weights)


right = WideTopK(keeps_k=True)
wrong = WideTopK(keeps_k=False)
