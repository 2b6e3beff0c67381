"""The first grouped GEMM with gate and up in a single product, against the one with two."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from moe_dispatch.gate_up import plan_gate_up
from moe_dispatch.joint_gate_up import plan_joint_gate_up
from moe_dispatch.launch import takes_descriptor
from moe_dispatch.schedule import max_tiles, plan_schedule
from moe_dispatch.tensor_spec import TensorSpec
from moe_dispatch.tile_config import TileConfig

GROUPS = [16, 0, 1, 49, 15, 17, 32, 48]
"""Rows of each expert: tiles of every height, full and not, with tails and without."""


def both(
    x: torch.Tensor,
    weights: torch.Tensor,
    ids: torch.Tensor,
    tiles: TileConfig,
    *,
    num_tiles: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """h in one product and in two, by the same schedule; of its tiles the first `num_tiles`."""
    x_spec, weights_spec, ids_spec = map(TensorSpec.of, (x, weights, ids))
    assert takes_descriptor(weights_spec)
    num_experts, top_k = weights.shape[0], ids.shape[1]
    most_tiles = max_tiles(num_slots=ids.numel(), num_experts=num_experts, block_m=tiles.block_m)
    schedule = plan_schedule(
        ids_spec, num_experts, max_tiles=most_tiles, block_m=tiles.block_m, tail=tiles.tail
    )(ids)
    if num_tiles is not None:
        schedule[0] = num_tiles
    joint = plan_joint_gate_up(
        x_spec,
        weights_spec,
        max_tiles=most_tiles,
        top_k=top_k,
        heights=tiles.heights,
        block_m=tiles.block_m,
        tile=tiles.gate_up,
        allow_tf32=False,
    )
    separate = plan_gate_up(
        x_spec,
        weights_spec,
        max_tiles=most_tiles,
        top_k=top_k,
        programs=1,
        tiles=tiles,
        allow_tf32=False,
    )
    return joint(x, weights, schedule), separate(x, weights, schedule)


def routed(groups: list[int], top_k: int) -> torch.Tensor:
    """ids (T, K) of which so many are each expert's and the others no expert's, in any order."""
    ids = [torch.full((rows,), expert) for expert, rows in enumerate(groups)]
    outside = torch.tensor([-1, len(groups), 1 << 40, -(1 << 40)])
    ids.append(outside.repeat(top_k + 1)[: 7 + -(sum(groups) + 7) % top_k])
    together = torch.cat(ids)
    order = torch.randperm(len(together), generator=torch.manual_seed(0))
    return together[order].reshape(-1, top_k)


@pytest.mark.parametrize(
    ("hidden_size", "intermediate_size"), [(32, 32), (40, 37), (8, 3), (72, 65), (96, 24)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("heights", "group_m", "gaps"),
    [
        pytest.param((16, 32, 48), 2, False, id="tail"),
        pytest.param((32,), 1, False, id="one-height"),
        pytest.param((16, 32, 48), 1, True, id="gaps"),
    ],
)
def test_same_values(
    device: torch.device,
    make_tiles: Callable[..., TileConfig],
    hidden_size: int,
    intermediate_size: int,
    dtype: torch.dtype,
    heights: tuple[int, ...],
    group_m: int,
    gaps: bool,
) -> None:
    """Eighths, whose sums are exact; with gaps, NaN lies between the elements of x and between the
    rows of x and of weights.
    """
    num_experts, top_k = len(GROUPS), 3
    ids = routed(GROUPS, top_k)
    generator = torch.manual_seed(1)

    def eighths(*shape: int, gap: int, step: int) -> torch.Tensor:
        *leading, last = shape
        memory = torch.full((*leading, last * step + gap), float("nan"), dtype=dtype, device=device)
        view = memory[..., : last * step : step]
        view[:] = torch.randint(-9, 10, shape, generator=generator) / 8
        return view

    x = eighths(len(ids), hidden_size, gap=5 if gaps else 0, step=2 if gaps else 1)
    weights_of = (num_experts, 2 * intermediate_size, hidden_size)
    weights = eighths(*weights_of, gap=8 if gaps else 0, step=1)
    tiles = make_tiles(heights, 32, 16, group_m)
    joint, separate = both(x, weights, ids.to(device), tiles)
    assert not separate[: sum(GROUPS)].isnan().any()
    # Also: what no slot needs is left as it was.
    torch.testing.assert_close(joint, separate, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("block_k", [16, 64])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_same_bits_with_a_tail_and_without(
    device: torch.device, make_tiles: Callable[..., TileConfig], dtype: torch.dtype, block_k: int
) -> None:
    """One token's rows, with the weights as the first operand and as the second."""
    generator = torch.manual_seed(2)
    x = torch.randn(1, 72, generator=generator).expand(48, 72).to(device, dtype)
    weights = torch.randn(1, 80, 72, generator=generator).to(device, dtype)
    ids = torch.zeros(48, 1, dtype=torch.int32, device=device)
    joint, separate = both(x, weights, ids, make_tiles((16, 32, 48), 32, block_k))
    assert torch.equal(joint, joint[:1].expand(joint.shape))
    assert torch.equal(joint, separate)


def test_gate_rows_come_first(device: torch.device, make_tiles: Callable[..., TileConfig]) -> None:
    """A gate of 40 and an up of 2 give 80, in a tail too; swapped they would give 40 * SiLU(2)."""
    weights = torch.cat([torch.full((1, 5, 8), 40.0), torch.full((1, 5, 8), 2.0)], dim=1)
    ids = torch.zeros(48, 1, dtype=torch.int32, device=device)
    x = torch.eye(1, 8).expand(48, 8)
    joint, _ = both(x.to(device), weights.to(device), ids, make_tiles((32, 48), 16, 16))
    assert (joint == 80).all()


def test_surplus_programs(device: torch.device, make_tiles: Callable[..., TileConfig]) -> None:
    """They exit, although there would be tiles for them: h stays as it was."""
    ids = torch.zeros(48, 1, dtype=torch.int32, device=device)
    x, weights = torch.ones(48, 32, device=device), torch.ones(1, 32, 32, device=device)
    joint, _ = both(x, weights, ids, make_tiles((16,), 16, 16), num_tiles=1)
    assert not joint[:16].isnan().any()
    assert joint[16:].isnan().all()
