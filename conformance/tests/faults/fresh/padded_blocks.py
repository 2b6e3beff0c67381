"""An engine that pads each expert's slots to whole blocks, as ``moe_align_block_size`` does.

``wrong`` sizes the block table for the worst case and leaves the surplus blocks on expert 0; their
rows all point at the last slot, whose expert-0 output is added once more for each of them
(vllm-project/vllm#35161, pytorch/pytorch#172439).
"""

from __future__ import annotations

import torch
from torch.nn import functional

BLOCK = 16


class PaddedBlocks:
    """(T, H) from the five tensors of ``fused_experts``; blocks of 16 rows, one expert each."""

    def __init__(self, *, surplus_expert: int) -> None:
        self.surplus_expert = surplus_expert

    def __call__(self, hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights):
        num_experts = len(gate_up_proj)
        ids, weights = topk_ids.flatten().long(), topk_weights.flatten()
        blocks, experts = self.align(ids, num_experts)
        output = torch.zeros(hidden_states.shape, dtype=torch.float32)
        for slots, expert in zip(blocks, experts, strict=True):
            if expert < 0:
                continue
            real = slots.clamp(max=len(ids) - 1)
            rows = real // topk_ids.shape[1]
            x = hidden_states[rows].float()
            gate, up = (x @ gate_up_proj[expert].float().T).chunk(2, dim=1)
            middle = (functional.silu(gate) * up).to(hidden_states.dtype).float()
            y = middle @ down_proj[expert].float().T
            scale = weights[real]
            if expert != self.surplus_expert:
                scale = torch.where(slots < len(ids), scale, 0.0)
            output.index_add_(0, rows, y * scale[:, None])
        return output.to(hidden_states.dtype)

    def align(self, ids, num_experts):
        """Slots by block, ``len(ids)`` where a block has none, and each block's expert."""
        most = (len(ids) + min(len(ids), num_experts) * (BLOCK - 1)) // BLOCK
        blocks = torch.full((most, BLOCK), len(ids))
        experts = torch.full((most,), self.surplus_expert)
        used = 0
        for expert in range(num_experts):
            for slots in torch.nonzero(ids == expert).flatten().split(BLOCK):
                if len(slots):
                    blocks[used, : len(slots)] = slots
                    experts[used] = expert
                    used += 1
        return blocks, experts.tolist()


right = PaddedBlocks(surplus_expert=-1)
wrong = PaddedBlocks(surplus_expert=0)
