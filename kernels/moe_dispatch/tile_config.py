"""Tile sizes: a table keyed on architecture, element size and rows per expert.

There is no autotuner: the first call with a new shape costs what every call costs, and the same
shape always runs the same code.
"""

from __future__ import annotations

from typing import NamedTuple

from .sizes import cdiv, next_power_of_2
from .target import INTERPRETER


class GemmTile(NamedTuple):
    """One grouped GEMM's tile and how Triton compiles it.

    block_n: columns of the result, which are rows of the weights.
    group_m: row tiles that neighbouring programs cover before they move to the next columns, so
    that they find each other's weights in L2.
    num_stages: for each of `TileConfig.heights`.
    by_descriptor: load weights, and in down block_m rows of h at once, through tensor descriptors
    where their layout allows it; the TMA unit of NVIDIA's sm_90 and later computes the addresses.
    matrix_rows: CDNA: rows and columns of the matrix instruction, 16 or 32; 0 is Triton's choice.
    waves_per_simd: CDNA: the occupancy that registers must allow; 0 is LLVM's choice, which may
    move the loads of the next K step behind the products to save registers for more waves.
    tall_block_k: of gate_up's heights but the first; 0 is block_k.
    """

    block_n: int
    block_k: int
    group_m: int
    num_warps: int
    num_stages: tuple[int, ...]
    by_descriptor: bool = False
    matrix_rows: int = 0
    waves_per_simd: int = 0
    tall_block_k: int = 0

    @property
    def options(self) -> dict[str, int]:
        """Triton's compile options; those that only AMD's backend knows where they are set."""
        options = {"num_warps": self.num_warps}
        if self.matrix_rows:
            options["matrix_instr_nonkdim"] = self.matrix_rows
        if self.waves_per_simd:
            options["waves_per_eu"] = self.waves_per_simd
        return options


def _cdna(
    block_n: int, block_k: int, group_m: int, num_warps: int, *, waves_per_simd: int = 0
) -> GemmTile:
    """A tile of CDNA, for two heights: two stages keep one tile in LDS and the next in registers.

    Products of 16 by 16 split small tiles between the waves; of 32 by 32, Triton's choice, there
    are too few, and waves repeat each other's work. Both multiply as much per cycle (AMD lab
    notes, "AMD matrix cores"), and the order of the sums is the same for every height.
    """
    return GemmTile(
        block_n,
        block_k,
        group_m,
        num_warps,
        num_stages=(2, 2),
        matrix_rows=16,
        waves_per_simd=waves_per_simd,
    )


class SlicedTile(NamedTuple):
    """The tile of a `sliced_product`, in which K is split between a program's warps.

    weight_rows: of gate and up together, or of down. The ordinary tiles' are a multiple.
    """

    weight_rows: int
    block_k: int
    num_stages: int

    def constants(self, tile: GemmTile, *, matrices: int, size_k: int) -> tuple[int, ...] | None:
        """BLOCK_N, BLOCK_K, slices, stages, and whether K is whole steps; for the kernels.

        None where K is a part for one warp alone. tile: the ordinary one. matrices: 2 for gate, up.
        """
        block_n, even_k = self.weight_rows // matrices, size_k % self.block_k == 0
        if size_k <= self.block_k // tile.num_warps:
            return None
        return block_n, self.block_k, tile.num_warps, self.num_stages, even_k


class TileConfig(NamedTuple):
    """Tiles of both GEMMs. They share the heights, on which the schedule's tile map is built.

    heights: rows for which a tile is compiled, ascending; each has the least that holds its rows,
    so that experts with few rows and with many run side by side. Powers of two, and then sums of
    the highest of them, `block_m`, and a lower one. The matrix instruction, and with it the order
    of the sums, must be the same for all, so that equal tokens have equal bits.
    joint_gate_up: in place of `gate_up` for many rows (see `joint_gate_up`).
    narrow_down: in place of `down` where that has a tile for at most half the multiprocessors, as
    when many tokens go to few experts; a program finds from the schedule which it is. As many warps
    as down.
    persistent_down: in place of `down` where its operands' rows are short (see `persistent_down`).
    sliced: like narrow_down, for both products and experts of the first height; other sums' order.
    """

    heights: tuple[int, ...]
    gate_up: GemmTile
    down: GemmTile
    joint_gate_up: GemmTile | None = None
    narrow_down: GemmTile | None = None
    persistent_down: GemmTile | None = None
    sliced: SlicedTile | None = None

    @property
    def block_m(self) -> int:
        """Rows of every tile but an expert's last."""
        return 1 << (self.heights[-1].bit_length() - 1)

    @property
    def tail(self) -> int:
        """Rows more that an expert's last tile may have."""
        return self.heights[-1] - self.block_m

    @property
    def weight_eviction(self) -> str:
        """L2 policy for weights: streamed where nearly every expert has one row tile."""
        return "evict_first" if self.heights[0] <= 32 else ""


_PERSISTENT_UP_TO = 6
"""Elements of a row of h for each row an expert has on average, up to which the persistent kernel
is the faster one (on an H200). It saves as much of every tile, which counts the more the shorter
the rows; without tails it multiplies half a tile more an expert, which many rows outweigh."""

_Rows = dict[int, TileConfig]
"""From the largest mean number of rows per expert that a config is meant for, to the config."""

_UNBOUNDED = 1 << 62
_AMD_SLICED = SlicedTile(32, 256, 2)

_SM_80: _Rows = {
    8: TileConfig(
        (16, 64),
        GemmTile(64, 64, 4, 4, (4, 3)),
        GemmTile(64, 128, 4, 4, (4, 3)),
        sliced=SlicedTile(32, 256, 4),
    ),
    24: TileConfig((32, 64), GemmTile(64, 64, 4, 4, (4, 3)), GemmTile(128, 64, 4, 4, (4, 3))),
    64: TileConfig((64,), GemmTile(64, 64, 4, 4, (3,)), GemmTile(128, 64, 4, 4, (3,))),
    _UNBOUNDED: TileConfig(
        (64, 128), GemmTile(64, 64, 8, 8, (3, 3)), GemmTile(128, 64, 8, 8, (3, 3))
    ),
}
_SM_86: _Rows = {
    8: TileConfig(
        (16, 32),
        GemmTile(64, 64, 4, 4, (3, 3)),
        GemmTile(64, 64, 4, 4, (4, 3)),
        sliced=SlicedTile(32, 256, 3),
    ),
    24: TileConfig((32,), GemmTile(64, 64, 1, 4, (3,)), GemmTile(64, 64, 1, 4, (4,))),
    64: TileConfig((64,), GemmTile(64, 32, 4, 4, (4,)), GemmTile(128, 32, 4, 4, (4,))),
    _UNBOUNDED: TileConfig(
        (64, 128), GemmTile(64, 32, 8, 8, (4, 4)), GemmTile(128, 32, 8, 8, (4, 4))
    ),
}
_SM_90: _Rows = {
    8: TileConfig(
        (16, 64),
        GemmTile(64, 128, 8, 4, (3, 4), True, tall_block_k=64),
        GemmTile(128, 64, 8, 4, (5, 4), True),
        sliced=SlicedTile(32, 256, 4),
    ),
    24: TileConfig(
        (32, 64, 128),
        GemmTile(128, 128, 8, 8, (3, 2, 2), True),
        GemmTile(128, 64, 8, 4, (5, 4, 3), True),
    ),
    48: TileConfig(
        (32, 64, 128),
        GemmTile(64, 128, 8, 4, (4, 4, 3), True),
        GemmTile(128, 64, 8, 4, (6, 6, 6), True),
        narrow_down=GemmTile(64, 128, 8, 4, (5, 4, 4), True),
    ),
    _UNBOUNDED: TileConfig(
        (64, 128, 144, 160),
        GemmTile(128, 64, 8, 8, (4, 4, 4, 4), True),
        GemmTile(256, 64, 8, 8, (4, 4, 4, 4), True),
        joint_gate_up=GemmTile(128, 64, 4, 8, (4, 4, 4, 4), True),
        narrow_down=GemmTile(128, 64, 8, 8, (5, 5, 4, 4), True),
        persistent_down=GemmTile(256, 64, 8, 8, (4,), True),
    ),
}
_SM_100: _Rows = {
    8: TileConfig(
        (16, 64),
        GemmTile(64, 128, 4, 4, (4, 3)),
        GemmTile(64, 128, 4, 4, (5, 4)),
        sliced=SlicedTile(32, 256, 4),
    ),
    24: TileConfig((32, 64), GemmTile(64, 128, 4, 4, (4, 3)), GemmTile(128, 64, 4, 4, (5, 4))),
    64: TileConfig((64,), GemmTile(128, 64, 4, 4, (4,)), GemmTile(128, 64, 4, 4, (4,))),
    _UNBOUNDED: TileConfig(
        (64, 128), GemmTile(128, 64, 8, 8, (4, 4)), GemmTile(256, 64, 8, 8, (4, 4))
    ),
}
# 64 KB of LDS; two stages keep one tile in LDS and the next in registers.
_GFX90A: _Rows = {
    8: TileConfig((16, 64), _cdna(64, 64, 4, 4), _cdna(64, 128, 4, 4), sliced=_AMD_SLICED),
    24: TileConfig((32, 64), _cdna(64, 64, 4, 4), _cdna(64, 64, 4, 4)),
    64: TileConfig((64, 128), _cdna(64, 64, 4, 4), _cdna(128, 64, 4, 4)),
    _UNBOUNDED: TileConfig((64, 128), _cdna(64, 64, 8, 8), _cdna(128, 64, 8, 8)),
}
_GFX942: _Rows = {
    8: TileConfig((16, 64), _cdna(64, 64, 4, 4), _cdna(64, 128, 4, 4), sliced=_AMD_SLICED),
    24: TileConfig((32, 64), _cdna(64, 64, 4, 4), _cdna(64, 128, 4, 4)),
    64: TileConfig((64, 128), _cdna(64, 64, 4, 4), _cdna(128, 64, 4, 4)),
    _UNBOUNDED: TileConfig((64, 128), _cdna(128, 64, 8, 8, waves_per_simd=2), _cdna(128, 64, 8, 8)),
}
_GFX950: _Rows = {
    8: TileConfig((16, 64), _cdna(64, 128, 4, 4), _cdna(64, 128, 4, 4), sliced=_AMD_SLICED),
    24: TileConfig((32, 64), _cdna(64, 128, 4, 4), _cdna(64, 128, 4, 4)),
    64: TileConfig((64, 128), _cdna(64, 128, 4, 4), _cdna(128, 64, 4, 4)),
    _UNBOUNDED: TileConfig((64, 128), _cdna(128, 64, 8, 8), _cdna(128, 64, 8, 8)),
}
_RDNA: _Rows = {
    8: TileConfig(
        (16, 32),
        GemmTile(64, 64, 4, 4, (2, 2)),
        GemmTile(64, 64, 4, 4, (2, 2)),
        sliced=_AMD_SLICED,
    ),
    24: TileConfig((32, 64), GemmTile(64, 32, 4, 4, (2, 2)), GemmTile(64, 64, 4, 4, (2, 2))),
    64: TileConfig((64, 128), GemmTile(64, 32, 4, 8, (2, 2)), GemmTile(64, 64, 4, 8, (2, 2))),
    _UNBOUNDED: TileConfig(
        (64, 128), GemmTile(64, 32, 8, 8, (2, 2)), GemmTile(128, 32, 8, 8, (2, 2))
    ),
}
# Most architectures multiply fp32 outside the matrix unit: registers limit the tile.
_FP32: _Rows = {
    8: TileConfig((16,), GemmTile(32, 32, 1, 4, (2,)), GemmTile(64, 32, 1, 4, (2,))),
    _UNBOUNDED: TileConfig((64,), GemmTile(32, 32, 4, 8, (2,)), GemmTile(32, 32, 4, 8, (2,))),
}
# CDNA's matrix unit multiplies fp32.
_FP32_CDNA: _Rows = {
    8: TileConfig((16, 64), _cdna(64, 32, 4, 4), _cdna(64, 32, 4, 4)),
    _UNBOUNDED: TileConfig((64, 128), _cdna(32, 32, 4, 8), _cdna(64, 32, 4, 8)),
}
_CDNA = frozenset({"gfx90a", "gfx942", "gfx950"})

_BY_ARCHITECTURE: dict[str, _Rows] = {
    "sm_80": _SM_80,
    "sm_86": _SM_86,
    "sm_90": _SM_90,
    "sm_100": _SM_100,
    "gfx90a": _GFX90A,
    "gfx942": _GFX942,
    "gfx950": _GFX950,
    "gfx1100": _RDNA,
    "gfx1201": _RDNA,
}

_SAME_BITS = frozenset({"sm_90"})
"""Architectures whose 16-bit tiles, but for sliced ones, give the same bits: all products consist
of the same wgmma steps of 16 along K, in order (measured on an H200, tested where there is one)."""

_BATCH_INVARIANT_ROWS = 64
"""Elsewhere, with `batch_invariant`, every batch uses the tiles for this many rows per expert."""


def select_tiles(
    *,
    arch: str,
    element_size: int,
    num_slots: int,
    num_experts: int,
    hidden_size: int,
    intermediate_size: int,
    batch_invariant: bool,
) -> TileConfig:
    """The tiles for `num_slots` (T * K) slots over `num_experts` experts.

    arch: a result of `target.architecture`. element_size: bytes per element of the activations.
    """
    rows = cdiv(num_slots, num_experts)
    same_bits = arch in _SAME_BITS and element_size == 2
    if batch_invariant and not same_bits:
        rows = _BATCH_INVARIANT_ROWS
    if arch == INTERPRETER:
        config = _interpreter_tiles(rows, num_experts, hidden_size, intermediate_size)
    else:
        by_rows = configs(arch=arch, element_size=element_size)
        config = by_rows[row_limit(by_rows, rows)]
        if intermediate_size > _PERSISTENT_UP_TO * rows:
            config = config._replace(persistent_down=None)
    if batch_invariant:
        narrow_down = config.narrow_down if same_bits else None
        config = config._replace(sliced=None, narrow_down=narrow_down)
    return config


def row_limit(by_rows: _Rows, rows: int) -> int:
    """The key, in a result of `configs`, of the config that serves so many rows per expert."""
    return next(limit for limit in by_rows if rows <= limit)


def configs(*, arch: str, element_size: int) -> _Rows:
    """Every config `select_tiles` can return for a GPU, by rows per expert, ascending."""
    if element_size > 2:
        return _FP32_CDNA if arch in _CDNA else _FP32
    return _BY_ARCHITECTURE[arch]


def _interpreter_tiles(
    rows: int, num_experts: int, hidden_size: int, intermediate_size: int
) -> TileConfig:
    """Tiles for correctness: two K steps and, of few experts, two columns of tiles.

    The interpreter's time is the number of programs times their number of operations, nearly
    whatever the tile's size.
    """
    heights, group_m = ((16, 32), 1) if rows <= 16 else ((16, 32, 48), 2)
    columns = 2 if num_experts <= 16 else 1

    def tile(width: int, depth: int) -> GemmTile:
        block_n, block_k = _part(width, columns), _part(depth, 2)
        return GemmTile(block_n, block_k, group_m, num_warps=4, num_stages=(1,) * len(heights))

    gate_up, down = tile(intermediate_size, hidden_size), tile(hidden_size, intermediate_size)
    config = TileConfig(heights, gate_up, down)
    if rows <= 8:
        weight_rows = min(gate_up.block_n, down.block_n // 2)
        block_k = min(gate_up.block_k, down.block_k)
        return config._replace(sliced=SlicedTile(weight_rows, block_k, num_stages=1))
    config = config._replace(narrow_down=down._replace(block_n=max(16, down.block_n // 2)))
    if rows <= 32:
        return config
    return config._replace(
        joint_gate_up=gate_up._replace(by_descriptor=True),
        persistent_down=down._replace(by_descriptor=True),
    )


def _part(size: int, parts: int) -> int:
    """The smallest power of two, 16 to 128, that covers `size` in `parts` steps if it can.

    The interpreter's dot makes a tensor of M * N * K elements, and Triton allows 2^20.
    """
    return min(128, max(16, next_power_of_2(cdiv(size, parts))))
