"""An engine whose down projection adds to its output, and which times itself for new sizes.

``wrong`` lets the timed call add as well: the first call of each size counts twice
(triton-lang/triton#3004).
"""

from __future__ import annotations

import torch
from torch.nn import functional


class TunedAccumulation:
    """(T, H) from the five tensors of ``fused_experts``."""

    def __init__(self, *, restores_output: bool) -> None:
        self.restores_output = restores_output
        self.tuned: set[tuple[int, ...]] = set()

    def __call__(self, hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights):
        output = torch.zeros(hidden_states.shape, dtype=torch.float32)
        size = (*hidden_states.shape, *gate_up_proj.shape)
        arguments = (output, hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights)
        if size not in self.tuned:
            self.tuned.add(size)
            self.add_experts(*arguments)
            if self.restores_output:
                output.zero_()
        self.add_experts(*arguments)
        return output.to(hidden_states.dtype)

    def add_experts(self, output, hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights):
        for expert in range(len(gate_up_proj)):
            tokens, slots = torch.nonzero(topk_ids == expert, as_tuple=True)
            x = hidden_states[tokens].float()
            gate, up = (x @ gate_up_proj[expert].float().T).chunk(2, dim=1)
            middle = (functional.silu(gate) * up).to(hidden_states.dtype).float()
            y = middle @ down_proj[expert].float().T
            output.index_add_(0, tokens, y * topk_weights[tokens, slots, None])


right = TunedAccumulation(restores_output=True)
wrong = TunedAccumulation(restores_output=False)
