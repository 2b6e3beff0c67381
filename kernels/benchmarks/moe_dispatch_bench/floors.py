"""What the hardware allows, measured in the same run: read bandwidth and dense products."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from moe_dispatch_bench.timing import graph_seconds
from moe_dispatch_bench.workload import Shape

_BLOCK = 8192


@triton.jit
def _read_kernel(source, sums, blocks_each, BLOCK: tl.constexpr):
    """Read ``blocks_each`` blocks of int32 and store one sum, so that nothing is optimised away."""
    first = tl.program_id(0).to(tl.int64) * blocks_each * BLOCK
    total = tl.zeros((BLOCK,), dtype=tl.int32)
    for block in range(blocks_each):
        total += tl.load(source + first + block * BLOCK + tl.arange(0, BLOCK))
    tl.store(sums + tl.program_id(0), tl.sum(total))


def read_bandwidth() -> float:
    """Bytes per second of a kernel that only reads 4 GiB."""
    elements, blocks_each = 2**30, 8
    source = torch.randint(0, 100, (elements,), dtype=torch.int32, device="cuda")
    programs = elements // (blocks_each * _BLOCK)
    sums = torch.empty(programs, dtype=torch.int32, device="cuda")

    def read() -> None:
        _read_kernel[(programs,)](source, sums, blocks_each, BLOCK=_BLOCK, num_warps=8)

    return elements * 4 / graph_seconds([read])


def dense_seconds(shape: Shape, slots: int, dtype: torch.dtype) -> float:
    """Seconds of the library's two dense products with the FLOPs of ``slots`` routed rows."""
    x = torch.randn((slots, shape.hidden_size), device="cuda").to(dtype)
    h = torch.randn((slots, shape.intermediate_size), device="cuda").to(dtype)
    gate_up = torch.randn((2 * shape.intermediate_size, shape.hidden_size), device="cuda").to(dtype)
    down = torch.randn((shape.hidden_size, shape.intermediate_size), device="cuda").to(dtype)
    return graph_seconds([lambda: (x @ gate_up.T, h @ down.T)])
