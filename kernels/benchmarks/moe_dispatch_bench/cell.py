"""One cell of the benchmark: a layer, a number of tokens, a routing; every contender on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from moe_dispatch import fused_moe
from moe_dispatch.target import device_type
from moe_dispatch_bench.contenders import CANNOT_BE_CAPTURED, find_contender
from moe_dispatch_bench.floors import Reader, dense_call
from moe_dispatch_bench.timing import Call, host_seconds, seconds_in_turns
from moe_dispatch_bench.workload import Batch, Layer, make_batch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_LARGEST_RELATIVE_ERROR = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-5}
_CHECKED_TOKENS = 64
_FEW_TOKENS = 4  # up to which the host's time may be what a caller waits for
_READ, _DENSE = "one read", "dense products"  # no contender's name has a space


def measure_cell(
    layer: Layer, reader: Reader, *, tokens: int, routing: str, contenders: Sequence[str]
) -> list[dict[str, Any]]:
    """One row per contender: seconds, the floors, and the error against float32.

    The floors and all contenders take turns. Raises AssertionError if a contender's result is
    wrong.
    """
    shape, dtype = layer.shape, layer.gate_up_proj.dtype
    batches = [
        make_batch(shape, tokens, routing=routing, dtype=dtype, seed=seed)
        for seed in range(8 if tokens <= 256 else 2)
    ]
    moved = [
        shape.weight_bytes(batch.active_experts(), dtype.itemsize) + 2 * batch.hidden_states.nbytes
        for batch in batches
    ]
    calls = {name: _calls(name, layer, batches) for name in contenders}
    errors = {name: _relative_error(layer, batches[0], calls[name][0]()) for name in contenders}
    for name, error in errors.items():
        if not error <= _LARGEST_RELATIVE_ERROR[dtype]:
            raise AssertionError(
                f"{name} is wrong on {tokens} tokens of {shape.name}, {routing}: relative error "
                f"{error:.2e}"
            )
    slots = tokens * shape.top_k
    # As many calls as of a contender: what a replay costs by itself is spread over as many.
    dense = [dense_call(shape, slots, dtype)] * len(batches)
    floors = {_READ: reader.calls(moved), _DENSE: dense}
    seconds = seconds_in_turns(floors | calls, eager=CANNOT_BE_CAPTURED)
    mean_moved = sum(moved) / len(moved)
    return [
        {
            "contender": name,
            "seconds": seconds[name],
            "captured": name not in CANNOT_BE_CAPTURED,
            "host_seconds": host_seconds(calls[name][0])
            if name not in CANNOT_BE_CAPTURED and tokens <= _FEW_TOKENS
            else None,
            "layer_host_seconds": _layer_host_seconds(layer, batches[0])
            if name == "moe_dispatch" and tokens <= _FEW_TOKENS
            else None,
            "relative_error": errors[name],
            "streaming_seconds": mean_moved / reader.bandwidth,
            "read_seconds": seconds[_READ],
            "dense_seconds": seconds[_DENSE],
            "flops": shape.flops(slots),
            "bytes": mean_moved,
        }
        for name in contenders
    ]


def _calls(name: str, layer: Layer, batches: Sequence[Batch]) -> list[Call]:
    experts, weights = find_contender(name), (layer.gate_up_proj, layer.down_proj)
    return [
        partial(experts, batch.hidden_states, *weights, batch.topk_ids, batch.topk_weights)
        for batch in batches
    ]


def _layer_host_seconds(layer: Layer, batch: Batch) -> float:
    """The host's time for one eager call of the layer, router included."""
    weights = (layer.gate_up_proj, layer.down_proj)
    router_weight = torch.randn(
        (layer.shape.num_experts, layer.shape.hidden_size), device=device_type()
    ).to(batch.hidden_states.dtype)
    call = partial(fused_moe, batch.hidden_states, router_weight, *weights, batch.topk_ids.shape[1])
    return host_seconds(call)


def _relative_error(layer: Layer, batch: Batch, output: Any) -> float:
    """Frobenius norm of the error over the norm of the result, on the first tokens."""
    few = slice(0, _CHECKED_TOKENS)
    ids = batch.topk_ids[few]
    wanted = torch.zeros((len(ids), layer.shape.hidden_size), device=device_type())
    for expert in ids.unique().tolist():
        wanted += _one_expert(layer, batch, expert, few)
    return float((output[few].float() - wanted).norm() / wanted.norm())


def _one_expert(layer: Layer, batch: Batch, expert: int, few: slice) -> torch.Tensor:
    """The contribution of one expert to the first tokens, in float32."""
    weight = torch.where(batch.topk_ids[few] == expert, batch.topk_weights[few], 0.0).sum(dim=1)
    rows = batch.hidden_states[few].float()
    gate, up = (rows @ layer.gate_up_proj[expert].float().T).chunk(2, dim=1)
    y = (torch.nn.functional.silu(gate) * up) @ layer.down_proj[expert].float().T
    return y * weight[:, None]
