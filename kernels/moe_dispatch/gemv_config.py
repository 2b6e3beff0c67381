"""Tiles of the matrix-vector products, and when they take the place of matrix products."""

from __future__ import annotations

from typing import NamedTuple

from .target import INTERPRETER


class GemvTile(NamedTuple):
    """The part of a weight matrix that one program of a matrix-vector product reads at a time."""

    block_n: int
    block_k: int
    num_warps: int


class GemvConfig(NamedTuple):
    """Tiles of `gemv`'s two kernels."""

    gate_up: GemvTile
    down: GemvTile


_GEMV_GATE_UP = GemvTile(8, 256, 4)
_GEMV_DOWN = GemvTile(2, 1024, 2)
_LONG_GEMV_GATE_UP = GemvTile(8, 512, 4)
_LONG_GEMV_DOWN = GemvTile(4, 2048, 4)
_LONG_GEMV_FROM = 4097
"""Elements of a row from which on the long tiles are the faster ones."""

_INTERPRETER_GEMV = GemvConfig(GemvTile(32, 64, 4), GemvTile(32, 64, 4))

_GEMV_MOST_TOKENS = 4
_GEMV_EXPERTS_PER_SLOT = 4
"""Matrix-vector products read an expert once for each of its slots: few slots may share one."""


def select_gemv(
    *,
    arch: str,
    num_tokens: int,
    top_k: int,
    num_experts: int,
    hidden_size: int,
    intermediate_size: int,
    batch_invariant: bool,
) -> GemvConfig | None:
    """The tiles of matrix-vector products, or None where matrix products are to be used."""
    shared = num_tokens * top_k * _GEMV_EXPERTS_PER_SLOT > num_experts
    if batch_invariant or num_tokens > _GEMV_MOST_TOKENS or (num_tokens > 1 and shared):
        return None
    if arch == INTERPRETER:
        return _INTERPRETER_GEMV
    return GemvConfig(
        _LONG_GEMV_GATE_UP if hidden_size >= _LONG_GEMV_FROM else _GEMV_GATE_UP,
        _LONG_GEMV_DOWN if intermediate_size >= _LONG_GEMV_FROM else _GEMV_DOWN,
    )
