"""Cases whose experts have as many rows as a kernel's blocks, one fewer and one more.

A grouped GEMM cuts the rows of each expert into blocks of 16 to 256 rows, and takes the height
from a table by the mean number of rows per expert. Some kernels give an expert's last block a
height of its own, down to 16 rows and up to 32 rows above the others'. So every such number of
rows occurs beside the others in one batch, and in batches of other means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moeproof.case import Case, ValueFamily
from moeproof.number_format import STORAGE_FORMATS
from moeproof.problem import Problem


def _around(*heights: int) -> tuple[int, ...]:
    return tuple(height + offset for height in heights for offset in (-1, 0, 1))


_ALL = (1, *_around(16, 32, 64, 128, 160, 256, 288))
# E, K, rows: means of at most 8, 24, 48 rows, and of more, where tables of tiles turn.
_BATCHES: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (48, 1, (*_around(16, 64), 129)),
    (64, 2, _around(32, 64, 128, 256)),
    (64, 3, _ALL),
    (24, 4, _ALL),
)
# Columns of several blocks, and no multiple of any.
_HIDDEN_SIZE, _INTERMEDIATE_SIZE = 136, 72


def large() -> Iterator[Case]:
    """Every batch in every dtype, and one whose answer is exact."""
    for num_experts, top_k, rows in _BATCHES:
        for dtype in STORAGE_FORMATS:
            yield _case(num_experts, top_k, rows, dtype)
    for dtype, values in (("bf16", ValueFamily.EXACT_UP), ("fp16", ValueFamily.EXACT_DOWN)):
        yield _case(24, 4, _ALL, dtype, values)


def _case(
    num_experts: int,
    top_k: int,
    rows: Sequence[int],
    dtype: str,
    values: ValueFamily = ValueFamily.RANDOM,
) -> Case:
    """Idle experts stand between those with rows; the last expert fills the last token's slots."""
    filling = -sum(rows) % top_k
    sizes = [0] * (num_experts - 1) + [filling]
    for index, size in enumerate(rows):
        sizes[index * (num_experts - 1) // len(rows)] = size
    problem = Problem(
        num_tokens=(sum(rows) + filling) // top_k,
        hidden_size=_HIDDEN_SIZE,
        intermediate_size=_INTERMEDIATE_SIZE,
        num_experts=num_experts,
        top_k=top_k,
        dtype=dtype,
    )
    return Case(problem, f"group_sizes:{'+'.join(map(str, sizes))}", values)
