"""An engine that walks the tiles of its output in groups of columns, to find weights in the cache.

``wrong`` divides by the number of row tiles where the number of column tiles belongs, so that
some tiles are computed twice and others never, unless the grid is square
(meta-pytorch/applied-ai#25).
"""

from __future__ import annotations

import torch
from torch.nn import functional

TILE = 16


class SwizzledGrid:
    """(T, H) from the five tensors of ``fused_experts``; one expert at a time, tile by tile."""

    def __init__(self, *, divide_by_columns: bool) -> None:
        self.divide_by_columns = divide_by_columns

    def __call__(self, hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights):
        output = torch.zeros(hidden_states.shape, dtype=torch.float32)
        for expert in range(len(gate_up_proj)):
            tokens, slots = torch.nonzero(topk_ids == expert, as_tuple=True)
            x = hidden_states[tokens].float()
            gate, up = (x @ gate_up_proj[expert].float().T).chunk(2, dim=1)
            middle = (functional.silu(gate) * up).to(hidden_states.dtype).float()
            y = self.multiply(middle, down_proj[expert].float())
            output.index_add_(0, tokens, y * topk_weights[tokens, slots, None])
        return output.to(hidden_states.dtype)

    def multiply(self, a, b):
        """a (M, K) times b (N, K) transposed, program by program."""
        result = torch.zeros(len(a), len(b))
        rows, columns = -(-len(a) // TILE), -(-len(b) // TILE)
        width = columns if self.divide_by_columns else rows
        for program in range(rows * columns):
            m, n = program // width * TILE, program % width * TILE
            result[m : m + TILE, n : n + TILE] = a[m : m + TILE] @ b[n : n + TILE].T
        return result


right = SwizzledGrid(divide_by_columns=True)
wrong = SwizzledGrid(divide_by_columns=False)
