"""The bytes that calls move: counted from their launches' arguments, and by what kernels load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from moe_dispatch_bench.traffic import CallTraffic, count_traffic, table
from moe_dispatch_bench.workload import ROUTINGS, Shape, model_shape, route_tokens
from triton.runtime import interpreter

from moe_dispatch import fused_experts
from moe_dispatch.target import INTERPRETED

ARCHITECTURES = ("sm_80", "sm_86", "sm_90", "sm_100", "gfx90a", "gfx942", "gfx950", "gfx1100")
MODELS = ("Mixtral-8x7B", "Qwen3-30B-A3B", "Qwen2-57B-A14B", "gpt-oss-120b", "DeepSeek-V3")


def routed(shape: Shape, num_tokens: int, routing: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return route_tokens(shape, num_tokens, routing=routing, generator=generator)


def call(model: str, num_tokens: int, routing: str, arch: str) -> CallTraffic:
    shape = model_shape(model)
    return count_traffic(shape, routed(shape, num_tokens, routing), arch=arch)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("model", MODELS)
def test_small_batches_stream_the_weights_once(model: str, arch: str) -> None:
    for num_tokens in (1, 2, 4, 8, 16, 32, 64, 128):
        counted = call(model, num_tokens, "uniform", arch)
        # Tiles of 128 columns reach beyond gpt-oss's 2,880, and an expert may need a second tile.
        assert counted.weight_passes < 1.05, num_tokens
        assert counted.moved < 1.02 * counted.minimum, num_tokens


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("routing", ROUTINGS)
def test_beyond_the_minimum_only_h_and_y_and_the_schedule(routing: str, arch: str) -> None:
    for model in MODELS:
        shape = model_shape(model)
        for num_tokens in (1, 128, 2048, 8192):
            counted = call(model, num_tokens, routing, arch)
            slots = num_tokens * shape.top_k
            h, y = 2 * slots * shape.intermediate_size, 2 * slots * shape.hidden_size
            output = 2 * num_tokens * shape.hidden_size
            # Two tile maps of three numbers a tile, a number a slot, and 128 chunks' counts.
            schedule = 4 * (7 * slots + 128 * 512 + 8)
            assert counted.allocated <= output + h + y + schedule
            # x is read once more by no launch; y and h are written and read, the schedule is
            # written once and read by two launches, which read the ids besides.
            assert counted.moved <= counted.minimum + 2 * (h + y) + 4 * schedule


@pytest.mark.skipif(not INTERPRETED, reason="counts the loads that Triton's interpreter makes")
@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("num_tokens", [1, 2, 8, 24, 60, 88])
def test_count_is_what_kernels_load(
    num_tokens: int, routing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape("small", hidden_size=64, intermediate_size=128, num_experts=4, top_k=2)
    ids = routed(shape, num_tokens, routing)
    x = torch.randn(num_tokens, 64)
    gate_up_proj, down_proj = torch.randn(4, 256, 64), torch.randn(4, 64, 128)
    loaded = 0

    def counting(load: Callable[..., Any]) -> Callable[..., Any]:
        def load_and_count(pointers: Any, mask: Any, *rest: Any) -> Any:
            nonlocal loaded
            for weights in (gate_up_proj, down_proj):
                first = weights.data_ptr()
                inside = (pointers >= first) & (pointers < first + weights.nbytes)
                loaded += int(np.count_nonzero(inside & mask)) * weights.element_size()
            return load(pointers, mask, *rest)

        return load_and_count

    native = interpreter._interpreter
    monkeypatch.setattr(native, "load", counting(native.load))
    fused_experts(x, gate_up_proj, down_proj, ids, torch.ones(num_tokens, 2))
    counted = count_traffic(shape, ids, arch="interpreter", dtype=torch.float32)
    assert loaded == sum(launch.weights_loaded for launch in counted.launches) > 0


def test_table() -> None:
    heading, _, row = table(["sm_90"], ["Mixtral-8x7B"], [128], ["uniform"]).splitlines()
    assert heading.count("|") == row.count("|")
    assert row.endswith("| 2.821 | 2.840 | 1.01 | 1.00 |")
