"""The first grouped GEMM alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

import moe_dispatch.gate_up as gate_up_module
from moe_dispatch.gate_up import plan_gate_up
from moe_dispatch.schedule import max_tiles, plan_schedule
from moe_dispatch.target import INTERPRETED
from moe_dispatch.tensor_spec import TensorSpec
from moe_dispatch.tile_config import SlicedTile, TileConfig


def integers(*shape: int, bound: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-bound, bound + 1, shape, generator=generator).float()


def gate_up(
    x: torch.Tensor,
    weights: torch.Tensor,
    ids: torch.Tensor,
    tiles: TileConfig,
    *,
    programs: int = 1000,
) -> torch.Tensor:
    """h, with the schedule made for it. programs: as many as there are tiles in a test, or more."""
    num_experts = weights.shape[0]
    most_tiles = max_tiles(num_slots=ids.numel(), num_experts=num_experts, block_m=tiles.block_m)
    build_schedule = plan_schedule(
        TensorSpec.of(ids),
        num_experts,
        max_tiles=most_tiles,
        block_m=tiles.block_m,
        tail=tiles.tail,
    )
    run = plan_gate_up(
        TensorSpec.of(x),
        TensorSpec.of(weights),
        max_tiles=most_tiles,
        top_k=ids.shape[1],
        programs=programs,
        tiles=tiles,
        allow_tf32=False,
    )
    return run(x, weights, build_schedule(ids))


@pytest.mark.parametrize(
    ("hidden_size", "intermediate_size"), [(32, 32), (40, 36), (7, 3), (96, 65), (1, 1)]
)
def test_exact_values(
    device: torch.device, tiles: TileConfig, hidden_size: int, intermediate_size: int
) -> None:
    """With a gate of 64 SiLU is exact: h is 64 times the up projection, in integers."""
    num_experts, top_k, num_tokens = 3, 2, 21
    x = integers(num_tokens, hidden_size, bound=3, seed=0)
    x[:, 0] = 1
    weights = integers(num_experts, 2 * intermediate_size, hidden_size, bound=4, seed=1)
    weights[:, :intermediate_size] = 0
    weights[:, :intermediate_size, 0] = 64
    ids = torch.randint(-1, num_experts, (num_tokens, top_k), generator=torch.manual_seed(2))
    h = gate_up(x.to(device), weights.to(device), ids.to(device), tiles)
    assert h.shape == (num_tokens * top_k, intermediate_size)
    expected = [
        64 * x[slot // top_k] @ weights[expert, intermediate_size:].T
        for expert in range(num_experts)
        for slot in torch.nonzero(ids.reshape(-1) == expert)[:, 0].tolist()
    ]
    torch.testing.assert_close(h[: len(expected)].cpu(), torch.stack(expected), rtol=0, atol=0)
    # What no slot needs is left as it was.
    assert h[len(expected) :].isnan().all()


def test_gate_rows_come_first(device: torch.device, tiles: TileConfig) -> None:
    """A gate of 40 and an up of 2 give 80; swapped they would give 40 * SiLU(2)."""
    weights = torch.cat([torch.full((1, 5, 9), 40.0), torch.full((1, 5, 9), 2.0)], dim=1)
    x = torch.eye(1, 9)
    ids = torch.zeros(1, 1, dtype=torch.int32)
    h = gate_up(x.to(device), weights.to(device), ids.to(device), tiles)
    assert (h == 80).all()


@pytest.mark.parametrize(
    ("groups", "others", "programs", "sliced", "whole"),
    [
        ([3], 64, 2, 8, 0),
        ([3], 64, 1, 0, 2),
        # More programs than all tiles have, if they are whole.
        ([3], 0, 2, 8, 0),
        # A tile that is not low stays whole beside one that is.
        ([3, 9], 128, 4, 8, 2),
        ([9], 64, 2, 0, 2),
        # What an expert has left beyond a full tile is treated like the rows in that.
        ([19], 128, 4, 0, 4),
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
    """Two tiles of columns where they are whole, eight where they are sliced.

    others: slots of no expert.
    """
    hidden_size, intermediate_size = 100, 32 + 17
    tiles = make_tiles((8, 16), 32, 16, sliced=SlicedTile(16, 64, 1))
    x = integers(sum(groups) + others, hidden_size, bound=3, seed=0)
    x[:, 0] = 1
    weights = integers(len(groups), 2 * intermediate_size, hidden_size, bound=4, seed=1)
    weights[:, :intermediate_size] = 0
    weights[:, :intermediate_size, 0] = 64
    ids = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
    ids = torch.cat([ids, torch.full((others,), -1)])[:, None]
    counted = count_calls(gate_up_module, "sliced_gate_up_tile", "gate_up_tile")
    h = gate_up(x.to(device), weights.to(device), ids.to(device), tiles, programs=programs)
    up = weights[:, intermediate_size:]
    expected = torch.cat([64 * x[ids[:, 0] == e] @ up[e].T for e in range(len(groups))])
    assert torch.equal(h[: sum(groups)].cpu(), expected)
    if INTERPRETED:
        assert (counted["sliced_gate_up_tile"], counted["gate_up_tile"]) == (sliced, whole)
