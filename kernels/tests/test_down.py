"""The second grouped GEMM alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

import moe_dispatch.down as down_module
from moe_dispatch.down import plan_down
from moe_dispatch.schedule import max_tiles, plan_schedule
from moe_dispatch.target import INTERPRETED
from moe_dispatch.tensor_spec import TensorSpec
from moe_dispatch.tile_config import SlicedTile, TileConfig


def integers(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-9, 10, shape, generator=generator).float()


def down(
    h: torch.Tensor,
    weights: torch.Tensor,
    schedule: torch.Tensor,
    tiles: TileConfig,
    *,
    most_tiles: int,
    programs: int = 1,
) -> torch.Tensor:
    run = plan_down(
        TensorSpec.of(h),
        TensorSpec.of(weights),
        max_tiles=most_tiles,
        programs=programs,
        tiles=tiles,
        allow_tf32=False,
    )
    return run(h, weights, schedule)


def down_of_ids(
    h: torch.Tensor,
    weights: torch.Tensor,
    ids: torch.Tensor,
    tiles: TileConfig,
    *,
    programs: int = 1000,
) -> torch.Tensor:
    """y, with the schedule made for it. programs: as many as there are tiles in a test, or more."""
    num_experts = weights.shape[0]
    most_tiles = max_tiles(num_slots=ids.numel(), num_experts=num_experts, block_m=tiles.block_m)
    build_schedule = plan_schedule(
        TensorSpec.of(ids),
        num_experts,
        max_tiles=most_tiles,
        block_m=tiles.block_m,
        tail=tiles.tail,
    )
    schedule = build_schedule(ids)
    return down(h, weights, schedule, tiles, most_tiles=most_tiles, programs=programs)


@pytest.mark.parametrize(
    ("hidden_size", "intermediate_size"), [(32, 32), (40, 36), (7, 3), (65, 96), (1, 1)]
)
def test_exact_values(
    device: torch.device, tiles: TileConfig, hidden_size: int, intermediate_size: int
) -> None:
    num_experts, num_tokens, top_k = 4, 19, 3
    ids = torch.randint(-1, num_experts, (num_tokens, top_k), generator=torch.manual_seed(0))
    weights = integers(num_experts, hidden_size, intermediate_size, seed=1)
    order = torch.cat([torch.nonzero(ids.reshape(-1) == e)[:, 0] for e in range(num_experts)])
    h = torch.full((num_tokens * top_k, intermediate_size), float("nan"))
    h[: len(order)] = integers(len(order), intermediate_size, seed=2)
    y = down_of_ids(h.to(device), weights.to(device), ids.to(device), tiles)
    expected = torch.full((num_tokens * top_k, hidden_size), float("nan"))
    for row, slot in enumerate(order.tolist()):
        expected[slot] = weights[ids.reshape(-1)[slot]] @ h[row]
    torch.testing.assert_close(y.cpu(), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("num_tokens", "programs", "narrow"),
    [(5, 2, False), (5, 3, True), (17, 5, False), (17, 6, True)],
)
def test_few_tiles_are_narrow(
    device: torch.device,
    make_tiles: Callable[..., TileConfig],
    monkeypatch: pytest.MonkeyPatch,
    num_tokens: int,
    programs: int,
    narrow: bool,
) -> None:
    """Three tiles of columns where they are wide, six where they are narrow; no tile is surplus."""
    hidden_size, intermediate_size = 32 + 32 + 17, 40
    tiles = make_tiles((16,), 32, 16)
    tiles = tiles._replace(narrow_down=tiles.down._replace(block_n=16, block_k=32))
    ids = torch.zeros(num_tokens, 1, dtype=torch.int32)
    weights = integers(1, hidden_size, intermediate_size, seed=1)
    h = integers(num_tokens, intermediate_size, seed=2)
    widths = set()
    if INTERPRETED:  # Only there can a call within a kernel be listened to.
        compute = down_module.down_tile

        def listen(*arguments: Any) -> None:
            widths.add(int(arguments[11]))
            compute(*arguments)

        monkeypatch.setattr(down_module, "down_tile", listen)
    y = down_of_ids(h.to(device), weights.to(device), ids.to(device), tiles, programs=programs)
    assert torch.equal(y.cpu(), h @ weights[0].T)
    assert not INTERPRETED or widths == {16 if narrow else 32}


@pytest.mark.parametrize(
    ("groups", "others", "programs", "sliced", "whole"),
    [
        ([3], 64, 3, 6, 0),
        ([3], 64, 2, 0, 3),
        # More programs than all tiles have, if they are whole.
        ([3], 0, 3, 6, 0),
        # A tile that is not low stays whole beside one that is.
        ([3, 9], 64, 6, 6, 3),
        ([9], 64, 3, 0, 3),
        # What an expert has left beyond a full tile is treated like the rows in that.
        ([19], 64, 6, 0, 6),
        ([3, 2, 2], 64, 9, 18, 0),
        ([3, 2, 2], 64, 8, 0, 9),
    ],
)
def test_few_low_tiles_are_sliced(
    device: torch.device,
    make_tiles: Callable[..., TileConfig],
    count_calls: Callable[..., Counter[str]],
    groups: list[int],
    others: int,
    programs: int,
    sliced: int,
    whole: int,
) -> None:
    """Three tiles of columns where they are whole, six where they are sliced.

    others: slots of no expert.
    """
    hidden_size, intermediate_size = 32 + 32 + 17, 100
    tiles = make_tiles((8, 16), 32, 16, sliced=SlicedTile(16, 64, 1))
    ids = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
    ids = torch.cat([ids, torch.full((others,), -1)])[:, None]
    weights = integers(len(groups), hidden_size, intermediate_size, seed=1)
    h = integers(len(ids), intermediate_size, seed=2)
    counted = count_calls(down_module, "sliced_down_tile", "down_tile")
    y = down_of_ids(h.to(device), weights.to(device), ids.to(device), tiles, programs=programs)
    expected = torch.cat([h[ids[:, 0] == e] @ weights[e].T for e in range(len(groups))])
    assert torch.equal(y[: sum(groups)].cpu(), expected)
    if INTERPRETED:
        assert (counted["sliced_down_tile"], counted["down_tile"]) == (sliced, whole)


def test_rows_past_the_last_are_not_read(
    device: torch.device,
    guarded: Callable[..., torch.Tensor],
    make_tiles: Callable[..., TileConfig],
) -> None:
    """h's only row ends where the process may read no further: a read there kills it."""
    weights = integers(1, 16, 40, seed=0).to(device)
    ids = torch.zeros(1, 1, dtype=torch.int32, device=device)
    h = guarded(integers(1, 40, seed=1).to(device), at_end=True)
    y = down_of_ids(h, weights, ids, make_tiles((16,), 16, 16))
    assert torch.equal(y, h @ weights[0].T)


def test_output_offsets_past_2_31(
    device: torch.device, make_tiles: Callable[..., TileConfig]
) -> None:
    """The row of the last slot starts past 2^31 elements; only pages that are touched exist."""
    hidden_size, num_slots = 1 << 16, (1 << 15) + 2
    tiles = make_tiles((16,), 1024, 16)
    h = torch.ones(1, 16, device=device, dtype=torch.bfloat16).expand(num_slots, 16)
    weights = torch.ones(1, hidden_size, 16, device=device, dtype=torch.bfloat16)
    torch.utils.deterministic.fill_uninitialized_memory = False
    # One tile of one row, which is that of the last slot.
    schedule = torch.tensor([1, 0, 0, 1, num_slots - 1], dtype=torch.int32, device=device)
    y = down(h, weights, schedule, tiles, most_tiles=1)
    assert (num_slots - 1) * hidden_size > 1 << 31
    assert (y[-1] == 16).all()


def test_a_k_too_short_to_split_is_not_split(
    device: torch.device,
    make_tiles: Callable[..., TileConfig],
    count_calls: Callable[..., Counter[str]],
) -> None:
    """Four warps with 16 elements of a step each: 16 are one warp's work, 17 those of two."""
    tiles = make_tiles((16,), 32, 16, sliced=SlicedTile(16, 64, 1))
    ids = torch.zeros(3, 1, dtype=torch.int32)
    for intermediate_size, sliced, whole in ((16, 0, 1), (17, 2, 0)):
        counted = count_calls(down_module, "sliced_down_tile", "down_tile")
        weights = integers(1, 32, intermediate_size, seed=1)
        h = integers(3, intermediate_size, seed=2)
        y = down_of_ids(h.to(device), weights.to(device), ids.to(device), tiles)
        assert torch.equal(y.cpu(), h @ weights[0].T)
        if INTERPRETED:
            assert (counted["sliced_down_tile"], counted["down_tile"]) == (sliced, whole)
