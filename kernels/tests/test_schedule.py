"""The schedule against a stable sort."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import triton
import triton.language as tl

from moe_dispatch.schedule import max_tiles, plan_schedule, tile_of_program
from moe_dispatch.tensor_spec import TensorSpec


class Schedule(NamedTuple):
    buffer: torch.Tensor
    max_tiles: int
    num_slots: int


def build_schedule(
    topk_ids: torch.Tensor,
    num_experts: int,
    *,
    block_m: int,
    tail: int = 0,
    without_tails: bool = False,
) -> Schedule:
    num_slots = topk_ids.numel()
    tiles = max_tiles(num_slots=num_slots, num_experts=num_experts, block_m=block_m)
    plan = plan_schedule(
        TensorSpec.of(topk_ids),
        num_experts,
        max_tiles=tiles,
        block_m=block_m,
        tail=tail,
        without_tails=without_tails,
    )
    return Schedule(plan(topk_ids), tiles, num_slots)


def tiles_and_slots(schedule: Schedule) -> tuple[list[tuple[int, int, int]], torch.Tensor]:
    """The tiles as (expert, first row, row after the last), and the slot of each row."""
    buffer, capacity = schedule.buffer.cpu(), schedule.max_tiles
    number = int(buffer[0])
    columns = (buffer[1 + i * capacity : 1 + i * capacity + number].tolist() for i in range(3))
    first = 1 + 3 * capacity
    return list(zip(*columns, strict=True)), buffer[first : first + schedule.num_slots]


def tiles_cut_again(schedule: Schedule) -> list[tuple[int, int, int]]:
    """The tiles that follow the slots."""
    again = schedule.buffer[1 + 3 * schedule.max_tiles + schedule.num_slots :]
    return tiles_and_slots(schedule._replace(buffer=again))[0]


def check(topk_ids: torch.Tensor, num_experts: int, block_m: int, tail: int = 0) -> None:
    schedule = build_schedule(topk_ids, num_experts, block_m=block_m, tail=tail)
    tiles, slots = tiles_and_slots(schedule)
    ids = topk_ids.cpu().reshape(-1)
    tall, others = [], []
    expected_slots = []
    row = 0
    for expert in range(num_experts):
        own = torch.nonzero(ids == expert)[:, 0]
        expected_slots.append(own)
        end = row + len(own)
        tiles_of_expert = []
        while row < end:
            next_row = end if end - row <= block_m + tail else row + block_m
            tiles_of_expert.append((expert, row, next_row))
            row = next_row
        last_rows = tiles_of_expert[-1][2] - tiles_of_expert[-1][1] if tiles_of_expert else 0
        (tall if last_rows > block_m else others).extend(tiles_of_expert)
    assert len(tiles) <= schedule.max_tiles
    assert tiles == tall + others
    assert torch.equal(slots[:row].long(), torch.cat(expected_slots))


def random_ids(num_tokens: int, top_k: int, num_experts: int, *, low: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_tokens)
    return torch.randint(low, num_experts, (num_tokens, top_k), generator=generator)


@pytest.mark.parametrize(("block_m", "tail"), [(16, 0), (16, 8), (128, 0), (128, 32)])
@pytest.mark.parametrize(
    ("num_tokens", "top_k", "num_experts"),
    [
        pytest.param(1, 1, 1, id="one"),
        pytest.param(1, 8, 8, id="one-token"),
        pytest.param(129, 3, 7, id="past-a-block"),
        pytest.param(40, 2, 1, id="one-expert"),
        pytest.param(64, 10, 1025, id="past-a-scan-block"),
        pytest.param(700, 3, 257, id="several-chunks"),
        pytest.param(2731, 3, 5, id="counted-first"),
    ],
)
def test_random_routing(
    device: torch.device, num_tokens: int, top_k: int, num_experts: int, block_m: int, tail: int
) -> None:
    ids = random_ids(num_tokens, top_k, num_experts, low=-1).to(device)
    check(ids, num_experts, block_m, tail)


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param([7] * 50, id="last-expert-only"),
        pytest.param([0] * 50, id="first-expert-only"),
        pytest.param(list(range(8)) * 3, id="alternating"),
        pytest.param(sorted(list(range(8)) * 5), id="sorted"),
        pytest.param(sorted(list(range(8)) * 5, reverse=True), id="reversed"),
        pytest.param([1, 3, 5] * 16, id="empty-experts"),
        pytest.param([3] * 16 + [5] * 17 + [6] * 15, id="round-a-tile"),
        pytest.param([1] * 20 + [2] * 21 + [3] * 36 + [4] * 37 + [5], id="round-a-tail"),
        pytest.param([-1] * 20, id="nobody"),
        pytest.param([8, -5, 2, 9, -1, 2], id="outside"),
    ],
)
@pytest.mark.parametrize("tail", [0, 4])
def test_pattern(device: torch.device, ids: list[int], tail: int) -> None:
    check(torch.tensor(ids, dtype=torch.int32, device=device)[:, None], 8, 16, tail)


@pytest.mark.parametrize("num_slots", [150, 3_000, 9_000])
def test_tiles_without_tails(device: torch.device, num_slots: int) -> None:
    """Beside tiles with tails come those that the same rows have without."""
    ids = random_ids(num_slots, 1, 7, low=-1).to(device)
    both = build_schedule(ids, 7, block_m=16, tail=8, without_tails=True)
    tiles, slots = tiles_and_slots(both)
    with_tails = build_schedule(ids, 7, block_m=16, tail=8)
    expected, expected_slots = tiles_and_slots(with_tails)
    routed = max(end_row for _, _, end_row in expected)
    assert tiles == expected
    assert torch.equal(slots[:routed], expected_slots[:routed])
    without = tiles_and_slots(build_schedule(ids, 7, block_m=16))[0]
    assert tiles_cut_again(both) == without != expected


def test_int64_ids_are_not_truncated(device: torch.device) -> None:
    # Truncated to 32 bits all but the first would be experts of 8.
    ids = torch.tensor([[3, (1 << 32) + 3], [-(1 << 32) + 2, 1 << 62], [1 << 33, 8]])
    check(ids.to(device), 8, 16)


@pytest.mark.parametrize("num_slots", [66_000, 9_000, 3_000, 300])
def test_few_slots_among_many_masked(device: torch.device, num_slots: int) -> None:
    ids = torch.full((num_slots, 1), -1, dtype=torch.int32)
    ids[:: num_slots // 7] = torch.arange(8).to(torch.int32)[: len(ids[:: num_slots // 7]), None]
    check(ids.to(device), 8, 32)


def test_strided_ids(device: torch.device) -> None:
    ids = random_ids(90, 4, 9).to(device)
    check(ids[::3, 1:3], 9, 16)
    check(ids.T.contiguous().T, 9, 16)
    check(ids[:1].expand(30, 4), 9, 16)


def test_same_bits_every_time(device: torch.device) -> None:
    ids = random_ids(3000, 3, 100).to(device)
    first = build_schedule(ids, 100, block_m=64)
    second = build_schedule(ids, 100, block_m=64)
    assert tiles_and_slots(first)[0] == tiles_and_slots(second)[0]
    assert torch.equal(tiles_and_slots(first)[1], tiles_and_slots(second)[1])


def test_ids_are_not_written(device: torch.device) -> None:
    ids = random_ids(50, 2, 8, low=-2).to(device)
    before = ids.clone()
    build_schedule(ids, 8, block_m=16)
    assert torch.equal(ids, before)


@pytest.mark.parametrize(("num_slots", "num_experts", "block_m"), [(50, 7, 16), (3, 9, 16)])
def test_max_tiles_is_the_worst_case(num_slots: int, num_experts: int, block_m: int) -> None:
    # One row for each expert but one leaves the most ragged tiles.
    worst = min(num_slots, num_experts) - 1
    rest = num_slots - worst
    reached = worst + -(-rest // block_m)
    bound = max_tiles(num_slots=num_slots, num_experts=num_experts, block_m=block_m)
    assert reached == bound


@triton.jit
def tile_of_program_kernel(out_ptr, max_tiles, column_tiles, GROUP_M: tl.constexpr):
    tile, column = tile_of_program(tl.program_id(0), max_tiles, column_tiles, GROUP_M)
    tl.store(out_ptr + 2 * tl.program_id(0), tile)
    tl.store(out_ptr + 2 * tl.program_id(0) + 1, column)


@pytest.mark.parametrize("group_m", [1, 2, 4, 8])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (8, 1), (3, 7), (9, 5)])
def test_programs_cover_each_tile_once(
    device: torch.device, rows: int, columns: int, group_m: int
) -> None:
    out = torch.empty(rows * columns, 2, dtype=torch.int32, device=device)
    tile_of_program_kernel[(rows * columns,)](out, rows, columns, GROUP_M=group_m)
    tiles = [tuple(pair) for pair in out.tolist()]
    assert sorted(tiles) == [(row, column) for row in range(rows) for column in range(columns)]
    # Within a group programs go through the rows first.
    height = min(group_m, rows)
    assert tiles[:height] == [(row, 0) for row in range(height)]
