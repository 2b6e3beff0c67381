"""The experts' forward pass from end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from moe_dispatch import fused_experts
from moe_dispatch.target import INTERPRETED
from moe_dispatch.tile_config import GemmTile, TileConfig

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def check(oracle: Callable[..., Any], assert_within: Callable[..., None]) -> Callable[..., None]:
    """The result lies within the bound, and no argument was written."""

    def run(experts: Any, **options: Any) -> None:
        before = [argument.clone() for argument in experts.arguments]
        actual = fused_experts(*experts.arguments, **options)
        assert actual.dtype == experts.hidden_states.dtype
        expected, bound = oracle(experts)
        assert_within(actual=actual, expected=expected, bound=bound)
        for argument, copy in zip(experts.arguments, before, strict=True):
            assert torch.equal(argument, copy)

    return run


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("num_tokens", "hidden_size", "intermediate_size", "num_experts", "top_k"),
    [
        pytest.param(9, 40, 36, 5, 3, id="ragged"),
        pytest.param(1, 1, 1, 1, 1, id="ones"),
        pytest.param(33, 64, 32, 2, 2, id="every-expert-2I-equals-H"),
        pytest.param(17, 67, 37, 7, 6, id="primes"),
        pytest.param(2, 150, 260, 3, 1, id="past-128"),
    ],
)
def test_matches_oracle(
    make_experts: Callable[..., Any],
    check: Callable[..., None],
    dtype: torch.dtype,
    num_tokens: int,
    hidden_size: int,
    intermediate_size: int,
    num_experts: int,
    top_k: int,
) -> None:
    check(make_experts(num_tokens, hidden_size, intermediate_size, num_experts, top_k, dtype))


def test_more_than_1024_experts(
    make_experts: Callable[..., Any], check: Callable[..., None]
) -> None:
    experts = make_experts(1, 16, 16, 1025, 5)
    ids = torch.tensor([[1024, 0, 1023, 512, 1024]]).to(experts.topk_ids)
    check(replace(experts, topk_ids=ids))


def test_no_tokens(make_experts: Callable[..., Any]) -> None:
    experts = make_experts(0, 16, 8, 4, 2, torch.bfloat16)
    actual = fused_experts(*experts.arguments)
    assert actual.shape == (0, 16)
    assert actual.dtype == torch.bfloat16


def test_nobody_routed(make_experts: Callable[..., Any]) -> None:
    experts = make_experts(5, 16, 8, 4, 2)
    experts = replace(experts, topk_ids=torch.full_like(experts.topk_ids, -1))
    assert (fused_experts(*experts.arguments) == 0).all()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_ids_outside_contribute_nothing(
    make_experts: Callable[..., Any], check: Callable[..., None], dtype: torch.dtype
) -> None:
    experts = make_experts(10, 32, 24, 6, 3)
    ids = experts.topk_ids.to(dtype)
    ids[0] = -1
    ids[1, 0] = 6
    ids[2, 1] = torch.iinfo(dtype).max
    ids[3, 2] = torch.iinfo(dtype).min
    ids[4] = torch.tensor([-7, 5, 100])
    check(replace(experts, topk_ids=ids))


def test_weights_of_slots_outside_are_not_read(make_experts: Callable[..., Any]) -> None:
    experts = make_experts(4, 16, 8, 4, 2)
    experts.topk_ids[:, 1] = -1
    expected = fused_experts(*experts.arguments)
    experts.topk_weights[:, 1] = float("nan")
    assert torch.equal(fused_experts(*experts.arguments), expected)


def test_an_id_twice_contributes_twice(
    make_experts: Callable[..., Any], check: Callable[..., None]
) -> None:
    experts = make_experts(7, 32, 24, 6, 3)
    check(replace(experts, topk_ids=experts.topk_ids[:, :1].expand(7, 3)))


def test_experts_without_tokens_are_not_read(
    make_experts: Callable[..., Any], check: Callable[..., None]
) -> None:
    experts = make_experts(20, 32, 24, 5, 2)
    allowed = torch.tensor([1, 3], device=experts.topk_ids.device, dtype=torch.int32)
    experts = replace(experts, topk_ids=allowed[experts.topk_ids % 2])
    for unused in (0, 2, 4):
        experts.gate_up_proj[unused] = float("nan")
        experts.down_proj[unused] = float("nan")
    output = fused_experts(*experts.arguments)
    assert output.isfinite().all()


def surrounded(tensor: torch.Tensor, *, step: int = 1) -> torch.Tensor:
    """The same values inside a larger tensor of NaN: any read beside them shows."""
    outer = torch.full(
        [2 + step * size for size in tensor.shape], float("nan"), device=tensor.device
    ).to(tensor.dtype)
    inner = outer[tuple(slice(1, 1 + step * size, step) for size in tensor.shape)]
    return inner.copy_(tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("step", [1, 2])
def test_views_into_larger_tensors(
    make_experts: Callable[..., Any], check: Callable[..., None], dtype: torch.dtype, step: int
) -> None:
    experts = make_experts(11, 37, 19, 4, 3, dtype)
    views = [surrounded(argument, step=step) for argument in experts.arguments[:3]]
    weights = surrounded(experts.topk_weights, step=step)
    ids = torch.stack([experts.topk_ids, torch.full_like(experts.topk_ids, 99)], dim=2)[:, :, 0]
    check(type(experts)(*views, ids, weights))


def test_transposed_layouts(make_experts: Callable[..., Any], check: Callable[..., None]) -> None:
    experts = make_experts(11, 40, 24, 4, 3)

    def transposed(tensor: torch.Tensor, *order: int) -> torch.Tensor:
        inverse = [order.index(axis) for axis in range(len(order))]
        return tensor.permute(order).contiguous().permute(inverse)

    arguments = (
        transposed(experts.hidden_states, 1, 0),
        transposed(experts.gate_up_proj, 0, 2, 1),
        transposed(experts.down_proj, 2, 1, 0),
        transposed(experts.topk_ids, 1, 0),
        transposed(experts.topk_weights, 1, 0),
    )
    assert not any(argument.is_contiguous() for argument in arguments)
    check(type(experts)(*arguments))


def test_expanded_arguments(make_experts: Callable[..., Any], check: Callable[..., None]) -> None:
    experts = make_experts(6, 24, 20, 4, 2)
    check(
        type(experts)(
            experts.hidden_states[:1].expand(6, 24),
            experts.gate_up_proj[:1].expand(4, 40, 24),
            experts.down_proj[:, :1].expand(4, 24, 20),
            experts.topk_ids[:1].expand(6, 2),
            experts.topk_weights[:, :1].expand(6, 2),
        )
    )


def test_offsets_past_2_31(
    make_experts: Callable[..., Any], device: torch.device, check: Callable[..., None]
) -> None:
    """Strides fit 32 bits, their products do not; only pages that are used exist."""
    torch.utils.deterministic.fill_uninitialized_memory = False
    storage = torch.empty(34 * (1 << 27) + 8192, dtype=torch.bfloat16, device=device)
    # Tokens and experts 2^30 elements apart.
    experts = make_experts(3, 24, 20, 3, 1, torch.bfloat16)
    experts = replace(experts, topk_ids=torch.full_like(experts.topk_ids, 2))
    far = (1 << 30) + 64
    apart = []
    for offset, tensor in zip((0, 1024, 2560), experts.arguments[:3], strict=True):
        strides = (far, *tensor.stride()[1:])
        apart.append(storage.as_strided(tensor.shape, strides, offset).copy_(tensor))
    expected = fused_experts(*experts.arguments)
    actual = fused_experts(*apart, experts.topk_ids, experts.topk_weights)
    assert torch.equal(actual, expected)
    # One expert's rows 2^27 apart, as in the layouts (2I, E, H) and (H, E, I) with many experts.
    far = 1 << 27
    experts = make_experts(3, 17, 17, 1, 1, torch.bfloat16)
    gate_up_proj = storage.as_strided((1, 34, 17), (0, far, 1), 0).copy_(experts.gate_up_proj)
    down_proj = storage.as_strided((1, 17, 17), (0, far, 1), 64).copy_(experts.down_proj)
    check(replace(experts, gate_up_proj=gate_up_proj, down_proj=down_proj))
    # Their columns that far apart, so that a step along K is 2^31.
    gate_up_proj = storage.as_strided((1, 34, 17), (0, 1, far), 0).copy_(experts.gate_up_proj)
    down_proj = storage.as_strided((1, 17, 17), (0, 1, far), 64).copy_(experts.down_proj)
    hidden_states = storage.as_strided((3, 17), (1, far), 128).copy_(experts.hidden_states)
    check(
        replace(
            experts, hidden_states=hidden_states, gate_up_proj=gate_up_proj, down_proj=down_proj
        )
    )


@pytest.mark.parametrize("at_end", [True, False])
def test_reads_stay_inside(
    make_experts: Callable[..., Any],
    check: Callable[..., None],
    guarded: Callable[..., torch.Tensor],
    at_end: bool,
) -> None:
    """The arguments end, or start, where the process may read no further: a read there kills it."""
    experts = make_experts(19, 37, 21, 4, 3, torch.bfloat16)
    ids = experts.topk_ids
    ids[0, 0], ids[1, 1], ids[-1, -1] = -1, 4, 3
    check(type(experts)(*(guarded(argument, at_end=at_end) for argument in experts.arguments)))


def test_more_than_65535_slots(
    make_experts: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tall tiles: the interpreter's time is the number of programs.
    tile = GemmTile(16, 16, 1, num_warps=4, num_stages=(1,))
    monkeypatch.setattr(
        "moe_dispatch.eager.select_tiles", lambda **_: TileConfig((1024,), gate_up=tile, down=tile)
    )
    monkeypatch.setattr("moe_dispatch.combine._BLOCK_T", 256)
    experts = make_experts(8200, 4, 3, 3, 1)
    ids = torch.full((8200, 8), -1, dtype=torch.int32, device=experts.topk_ids.device)
    ids[::1000, 5] = 2
    weights = torch.ones(8200, 8, device=ids.device)
    actual = fused_experts(*experts.arguments[:3], ids, weights)
    few = fused_experts(
        experts.hidden_states[::1000], *experts.arguments[1:3], ids[::1000], weights[::1000]
    )
    assert torch.equal(actual[::1000], few)
    actual[::1000] = 0
    assert (actual == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrow_routing_weights(
    make_experts: Callable[..., Any], check: Callable[..., None], dtype: torch.dtype
) -> None:
    experts = make_experts(5, 24, 20, 4, 2, torch.bfloat16)
    check(replace(experts, topk_weights=experts.topk_weights.to(dtype)))


def test_allow_tf32_is_accepted(
    make_experts: Callable[..., Any], oracle: Callable[..., Any]
) -> None:
    experts = make_experts(5, 24, 20, 4, 2)
    expected, _ = oracle(experts)
    actual = fused_experts(*experts.arguments, allow_tf32=True).cpu().double()
    assert (actual - expected).abs().max() < 2.0**-8 * expected.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_experts", [3, 10])
def test_same_bits_every_time(
    make_experts: Callable[..., Any], dtype: torch.dtype, num_experts: int
) -> None:
    experts = make_experts(40, 40, 24, num_experts, 3, dtype)
    first = fused_experts(*experts.arguments)
    assert torch.equal(fused_experts(*experts.arguments), first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_experts", [3, 10])
def test_position_invariant(
    make_experts: Callable[..., Any], dtype: torch.dtype, num_experts: int
) -> None:
    experts = make_experts(40, 40, 24, num_experts, 3, dtype)
    order = torch.randperm(40, generator=torch.manual_seed(1)).to(experts.topk_ids.device)
    permuted = replace(
        experts,
        hidden_states=experts.hidden_states[order],
        topk_ids=experts.topk_ids[order],
        topk_weights=experts.topk_weights[order],
    )
    expected = fused_experts(*experts.arguments)[order]
    assert torch.equal(fused_experts(*permuted.arguments), expected)


def test_expert_invariant(make_experts: Callable[..., Any]) -> None:
    experts = make_experts(30, 48, 40, 9, 3, torch.bfloat16)
    order = torch.randperm(9, generator=torch.manual_seed(1)).to(experts.topk_ids.device)
    relabelled = replace(
        experts,
        gate_up_proj=experts.gate_up_proj[order],
        down_proj=experts.down_proj[order],
        topk_ids=order.argsort().int()[experts.topk_ids.long()],
    )
    expected = fused_experts(*experts.arguments)
    assert torch.equal(fused_experts(*relabelled.arguments), expected)


def test_other_tokens_do_not_matter(make_experts: Callable[..., Any]) -> None:
    experts = make_experts(30, 48, 40, 4, 2)
    expected = fused_experts(*experts.arguments)
    experts.hidden_states[1:] = float("nan")
    assert torch.equal(fused_experts(*experts.arguments)[0], expected[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_invariant(make_experts: Callable[..., Any], dtype: torch.dtype) -> None:
    """On a GPU the batches are so different that all its tiles take part."""
    num_tokens, *sizes = (50, 40, 24) if INTERPRETED else (700, 264, 136)
    experts = make_experts(num_tokens, *sizes, 4, 2, dtype)
    together = fused_experts(*experts.arguments, batch_invariant=True)
    for first, count in ((3, 1), (10, 20), (0, num_tokens // 8), (5, num_tokens // 50)):
        rows = slice(first, first + count)
        part = replace(
            experts,
            hidden_states=experts.hidden_states[rows],
            topk_ids=experts.topk_ids[rows],
            topk_weights=experts.topk_weights[rows],
        )
        alone = fused_experts(*part.arguments, batch_invariant=True)
        assert torch.equal(alone, together[rows])


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_invariant_whatever_the_others_choose(
    make_experts: Callable[..., Any], dtype: torch.dtype
) -> None:
    """Of the others none, some or all go to the first token's experts, or to one of their own."""
    experts = make_experts(40, 264, 136, 32, 1, dtype)
    ids = experts.topk_ids.clone()
    ids[0] = 3
    results = []
    for others in (-1, 3, 4, experts.topk_ids[1:]):
        ids[1:] = others
        arguments = replace(experts, topk_ids=ids.clone()).arguments
        results.append(fused_experts(*arguments, batch_invariant=True)[0])
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_tokens_have_equal_bits(make_experts: Callable[..., Any], dtype: torch.dtype) -> None:
    """Wherever they stand among an expert's rows: all are in few tiles, of which one is low."""
    experts = make_experts(40, 264, 40, 32, 1, dtype)
    experts.topk_ids[:] = 3
    experts.topk_weights[:] = 0.5
    experts.hidden_states[:] = experts.hidden_states[:1].clone()
    results = fused_experts(*experts.arguments)
    assert torch.equal(results, results[:1].expand_as(results))
