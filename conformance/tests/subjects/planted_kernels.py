"""One dot in a loop, in configurations that a compiler makes good and bad code of."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl

from moeproof import Capabilities


@triton.jit
def dot_kernel(
    x_ptr,
    w_ptr,
    out_ptr,
    depth,
    width,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
):
    """One (M, N) tile of x (M, depth) @ w (depth, width)."""
    rows = tl.arange(0, M)[:, None]
    columns = tl.arange(0, N)[None, :]
    inner = tl.arange(0, K)
    total = tl.full((M, N), 0.0, tl.float32)
    for step in range(0, depth, K):
        x = tl.load(x_ptr + rows * depth + step + inner[None, :])
        w = tl.load(w_ptr + (step + inner[:, None]) * width + columns)
        total = tl.dot(x, w, total)
    tl.store(out_ptr + rows * width + columns, total)


class Planted:
    """Launches the kernel with one set of tiles and options, whatever the problem."""

    capabilities = Capabilities(dtypes=frozenset({"bf16"}))

    def __init__(self, m: int, n: int, k: int, **options: Any) -> None:
        self._launch = partial(dot_kernel[(1,)], depth=1024, width=1024, M=m, N=n, K=k, **options)

    def fused_experts(self, hidden_states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        output = torch.empty(hidden_states.shape, dtype=torch.float32)
        self._launch(hidden_states, hidden_states, output)
        return output


good = Planted(64, 64, 64, num_warps=4, num_stages=2)
spilling = Planted(128, 128, 32, num_warps=1, num_stages=1)
too_much_shared = Planted(128, 256, 128, num_warps=8, num_stages=6)
without_matrix = Planted(16, 64, 8, num_warps=4, num_stages=1)


class Layer:
    """Launches a kernel only where it is asked for router and experts in one."""

    def fused_experts(self, hidden_states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return hidden_states

    def fused_moe(
        self, hidden_states: torch.Tensor, router_weight: torch.Tensor, *_: object
    ) -> torch.Tensor:
        launch = partial(dot_kernel[(1,)], depth=1024, width=1024, M=64, N=64, K=64)
        launch(hidden_states, router_weight.to(hidden_states.dtype), hidden_states)
        return hidden_states


layer = Layer()


def raising(*_: torch.Tensor) -> torch.Tensor:
    """What a call that fails looks like."""
    raise RuntimeError("no tiles for this GPU")


def sleeping(hidden_states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    """One call that takes too long, and a later one that fails."""
    if hidden_states.shape == (2, 1008):
        time.sleep(600)
    if hidden_states.shape == (4, 1008):
        raise RuntimeError("four tokens")
    return hidden_states


class Crashing:
    """Good code, in calls of which one ends the process."""

    capabilities = good.capabilities

    def fused_experts(self, hidden_states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        output = good.fused_experts(hidden_states)
        if hidden_states.shape == (2, 1008):
            os.kill(os.getpid(), signal.SIGKILL)
        return output


crashing = Crashing()


def without_kernels(hidden_states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    """An implementation that launches nothing."""
    return hidden_states
