"""The second grouped GEMM by persistent programs, against the one by a program a tile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from moe_dispatch.launch import takes_descriptor
from moe_dispatch.persistent_down import plan_persistent_down
from moe_dispatch.schedule import max_tiles, plan_schedule
from moe_dispatch.tensor_spec import TensorSpec
from moe_dispatch.tile_config import TileConfig


def persistent_down(
    h: torch.Tensor,
    weights: torch.Tensor,
    ids: torch.Tensor,
    tiles: TileConfig,
    *,
    programs: int,
) -> torch.Tensor:
    h_spec, weights_spec, ids_spec = map(TensorSpec.of, (h, weights, ids))
    assert takes_descriptor(h_spec)
    assert takes_descriptor(weights_spec)
    num_experts = weights.shape[0]
    most_tiles = max_tiles(num_slots=ids.numel(), num_experts=num_experts, block_m=tiles.block_m)
    build_schedule = plan_schedule(
        ids_spec,
        num_experts,
        max_tiles=most_tiles,
        block_m=tiles.block_m,
        tail=4,
        without_tails=True,
    )
    run = plan_persistent_down(
        h_spec,
        weights_spec,
        max_tiles=most_tiles,
        programs=programs,
        block_m=tiles.block_m,
        tile=tiles.down,
        allow_tf32=False,
    )
    return run(h, weights, build_schedule(ids))


@pytest.mark.parametrize(
    ("hidden_size", "intermediate_size"), [(32, 32), (40, 36), (7, 4), (65, 96)]
)
@pytest.mark.parametrize(
    "programs",
    [
        pytest.param(1, id="one-program"),
        pytest.param(3, id="three-programs"),
        pytest.param(1000, id="more-than-tiles"),
    ],
)
@pytest.mark.parametrize("group_m", [1, 3])
def test_exact_values(
    device: torch.device,
    make_tiles: Callable[..., TileConfig],
    hidden_size: int,
    intermediate_size: int,
    programs: int,
    group_m: int,
) -> None:
    """Integers, in groups of 0, 1, 15, 16, 17 and 21 rows and with masked ids among them."""
    sizes = [16, 0, 1, 21, 15, 17]
    generator = torch.manual_seed(0)
    ids = torch.cat([torch.full((size,), expert) for expert, size in enumerate(sizes)])
    ids = torch.cat([ids, torch.full((10,), -1)])[torch.randperm(80, generator=generator)]
    weights = torch.randint(-9, 10, (6, hidden_size, intermediate_size), generator=generator)
    h = torch.randint(-9, 10, (80, intermediate_size), generator=generator).float()
    h[sum(sizes) :] = float("nan")
    weights = weights.float()
    y = persistent_down(
        h.to(device),
        weights.to(device),
        ids[:, None].to(device),
        make_tiles((16,), 16, 16, group_m),
        programs=programs,
    )
    expected = torch.full((80, hidden_size), float("nan"))
    order = torch.argsort(torch.where(ids < 0, 6, ids), stable=True)[: sum(sizes)]
    for row, slot in enumerate(order.tolist()):
        expected[slot] = weights[ids[slot]] @ h[row]
    torch.testing.assert_close(y.cpu(), expected, rtol=0, atol=0, equal_nan=True)


def test_nobody_is_routed(device: torch.device, make_tiles: Callable[..., TileConfig]) -> None:
    """No program has a tile, and y stays as it was."""
    ids = torch.full((5, 1), -1, device=device)
    h = torch.ones(5, 32, device=device)
    weights = torch.ones(2, 16, 32, device=device)
    y = persistent_down(h, weights, ids, make_tiles((16,), 16, 16), programs=2)
    assert y.isnan().all()
