"""The table of tiles."""

from __future__ import annotations

from typing import Any

import pytest

from moe_dispatch.gemv_config import select_gemv
from moe_dispatch.target import INTERPRETER
from moe_dispatch.tile_config import configs, select_tiles

# Bytes of shared memory (LDS) that one program may use: CUDA C++ Programming Guide, table of
# technical specifications per compute capability; AMD's ISA manuals, "LDS".
SHARED_MEMORY = {
    "sm_80": 163 << 10,
    "sm_86": 99 << 10,
    "sm_90": 227 << 10,
    "sm_100": 227 << 10,
    "gfx90a": 64 << 10,
    "gfx942": 64 << 10,
    "gfx950": 160 << 10,
    "gfx1100": 64 << 10,
    "gfx1201": 64 << 10,
}


def select(**changes: Any) -> Any:
    sizes = {"num_slots": 64, "num_experts": 8, "hidden_size": 64, "intermediate_size": 64}
    arguments = {"arch": "sm_90", "element_size": 2, "batch_invariant": False} | sizes | changes
    return select_tiles(**arguments)


@pytest.mark.parametrize("element_size", [2, 4])
@pytest.mark.parametrize("arch", SHARED_MEMORY)
def test_tiles_fit_shared_memory(arch: str, element_size: int) -> None:
    def fits(rows: int, depth: int, num_stages: int) -> bool:
        # AMD's pipeliner keeps one stage fewer in LDS than it has.
        stages = num_stages - (1 if arch.startswith("gfx") else 0)
        return stages * rows * depth * element_size <= SHARED_MEMORY[arch]

    for config in configs(arch=arch, element_size=element_size).values():
        for tile, weight_tiles in (
            (config.gate_up, 2),
            (config.joint_gate_up or config.gate_up, 2),
            (config.down, 1),
            (config.narrow_down or config.down, 1),
        ):
            tall_block_k = tile.tall_block_k or tile.block_k
            for height, num_stages in zip(config.heights, tile.num_stages, strict=True):
                depth = tile.block_k if height == config.heights[0] else tall_block_k
                assert fits(height + weight_tiles * tile.block_n, depth, num_stages)
        if config.sliced:
            sliced = config.sliced
            rows = config.heights[0] + sliced.weight_rows
            assert fits(rows, sliced.block_k, sliced.num_stages)


@pytest.mark.parametrize("element_size", [2, 4])
@pytest.mark.parametrize("arch", SHARED_MEMORY)
def test_blocks_are_powers_of_two_that_dots_take(arch: str, element_size: int) -> None:
    for config in configs(arch=arch, element_size=element_size).values():
        assert list(config.heights) == sorted(set(config.heights))
        assert config.block_m in config.heights
        assert config.block_m + config.tail == config.heights[-1]
        sizes = [
            height - (config.block_m if height > config.block_m else 0) for height in config.heights
        ]
        gate_ups = (config.gate_up, config.joint_gate_up or config.gate_up)
        downs = (config.down, config.narrow_down or config.down)
        assert len({tile.num_warps for tile in downs}) == 1
        for tile in (*gate_ups, *downs):
            for size in (*sizes, tile.block_n, tile.block_k):
                assert size >= 16
                assert size & (size - 1) == 0
            assert tile.num_warps in (4, 8)


@pytest.mark.parametrize("arch", SHARED_MEMORY)
def test_small_batches_in_16_bits_have_sliced_tiles(arch: str) -> None:
    """But not with `batch_invariant`: their sums are in an order that depends on the batch."""
    tiles = select(arch=arch, num_slots=64)
    assert select(arch=arch, num_slots=64, batch_invariant=True).sliced is None
    for tile, matrices in ((tiles.gate_up, 2), (tiles.down, 1)):
        block_n = tiles.sliced.weight_rows // matrices
        # A matrix instruction of any architecture takes 16 rows, 16 columns and 8 to 32 of K.
        assert block_n % 16 == 0
        assert tile.block_n % block_n == 0
        assert tiles.sliced.block_k % (32 * tile.num_warps) == 0
    assert select(arch=arch, num_slots=65).sliced is None
    assert select(arch=arch, num_slots=64, element_size=4).sliced is None


@pytest.mark.parametrize(
    ("rows", "intermediate_size", "persistent"),
    [(48, 64, False), (128, 768, True), (128, 769, False), (512, 2560, True), (256, 2560, False)],
)
def test_many_short_rows_take_persistent_programs(
    rows: int, intermediate_size: int, persistent: bool
) -> None:
    tiles = select(num_slots=8 * rows, intermediate_size=intermediate_size)
    assert (tiles.persistent_down is not None) == persistent


@pytest.mark.parametrize("intermediate_size", [64, 10**4])
def test_many_rows_take_gate_and_up_as_one_product(intermediate_size: int) -> None:
    """In 16 bits: in 32 a block of both would not fit."""

    def joint(rows: int, **changes: Any) -> bool:
        tiles = select(num_slots=8 * rows, intermediate_size=intermediate_size, **changes)
        return tiles.joint_gate_up is not None

    assert joint(49)
    assert not joint(48)
    assert not joint(10**6, element_size=4)
    assert not joint(10**6, arch="sm_80")
    assert joint(33, arch=INTERPRETER)
    assert not joint(32, arch=INTERPRETER)


@pytest.mark.parametrize("arch", [*SHARED_MEMORY, INTERPRETER])
def test_every_batch_has_tiles_that_grow(arch: str) -> None:
    chosen = [select(arch=arch, num_slots=8 * rows) for rows in (1, 8, 9, 64, 65, 10**6)]
    for place in (0, -1):
        heights = [config.heights[place] for config in chosen]
        assert heights == sorted(heights)
    assert chosen[0].heights[0] == 16


@pytest.mark.parametrize(
    ("arch", "element_size"),
    # All tiles of sm_90 give the same bits; test_fused_experts compares them on a GPU.
    [(arch, 2) for arch in (*SHARED_MEMORY, INTERPRETER) if arch != "sm_90"] + [("sm_90", 4)],
)
def test_batch_invariant_tiles_do_not_depend_on_the_batch(arch: str, element_size: int) -> None:
    chosen = {
        select(arch=arch, num_slots=slots, batch_invariant=True, element_size=element_size)
        for slots in (1, 100, 10**6)
    }
    assert len(chosen) == 1


@pytest.mark.parametrize(
    ("hidden_size", "intermediate_size"), [(40, 72), (64, 96), (160, 100), (17, 33)]
)
def test_interpreter_takes_several_steps(hidden_size: int, intermediate_size: int) -> None:
    tiles = select(arch=INTERPRETER, hidden_size=hidden_size, intermediate_size=intermediate_size)
    for tile, width, depth in (
        (tiles.gate_up, intermediate_size, hidden_size),
        (tiles.down, hidden_size, intermediate_size),
    ):
        assert width > tile.block_n
        assert depth > tile.block_k


def test_interpreter_tiles_stay_within_tritons_largest_tensor() -> None:
    tiles = select(arch=INTERPRETER, num_slots=10**6, hidden_size=10**4, intermediate_size=10**4)
    assert tiles.heights[-1] * tiles.gate_up.block_n * tiles.gate_up.block_k <= 1 << 20
    joint = tiles.joint_gate_up
    assert tiles.block_m * 2 * joint.block_n * joint.block_k <= 1 << 20


def gemv(num_tokens: int, *, num_experts: int = 128, **changes: Any) -> Any:
    sizes = {
        "top_k": 8,
        "hidden_size": 2048,
        "intermediate_size": 768,
        "batch_invariant": False,
    } | changes
    return select_gemv(arch="sm_90", num_tokens=num_tokens, num_experts=num_experts, **sizes)


def test_matrix_vector_products_are_for_tokens_that_share_no_experts() -> None:
    assert gemv(1) is not None
    assert gemv(1, num_experts=8) is not None
    assert gemv(4) is not None
    assert gemv(5) is None
    assert gemv(2, num_experts=63) is None
    assert gemv(1, batch_invariant=True) is None
