"""Time moe_dispatch: ``python -m moe_dispatch_bench --shapes Mixtral-8x7B --tokens 1 32 2048``.

Each line of the output file is one measurement; a run that is cut loses nothing, and a run that is
started again on the same file goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from moe_dispatch import fused_moe
from moe_dispatch_bench.contenders import CANNOT_BE_CAPTURED, CONTENDERS, find_contender
from moe_dispatch_bench.floors import dense_seconds, read_bandwidth
from moe_dispatch_bench.timing import eager_seconds, graph_seconds, host_seconds
from moe_dispatch_bench.workload import (
    ROUTINGS,
    Batch,
    Layer,
    make_batch,
    make_layer,
    model_shape,
)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_LARGEST_RELATIVE_ERROR = {"bf16": 1e-2, "fp16": 2e-3, "fp32": 1e-5}
_CHECKED_TOKENS = 64


def main() -> None:
    options = _options()
    done = _read(options.output)
    bandwidth = read_bandwidth()
    device = torch.cuda.get_device_name()
    print(f"{device}: reads {bandwidth / 1e12:.2f} TB/s")
    for shape_name in options.shapes:
        layer = None
        for tokens in options.tokens:
            for routing in options.routing:
                key = {
                    "device": device,
                    "shape": shape_name,
                    "tokens": tokens,
                    "routing": routing,
                    "dtype": options.dtype,
                }
                missing = [name for name in options.contenders if (*key.values(), name) not in done]
                if not missing:
                    continue
                if layer is None:
                    layer = make_layer(model_shape(shape_name), DTYPES[options.dtype])
                for row in _measure(layer, key, missing, bandwidth):
                    with options.output.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(_line(row), flush=True)
        del layer
        torch.cuda.empty_cache()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="moe_dispatch_bench", description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["Mixtral-8x7B", "Qwen3-30B-A3B"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[1, 32, 128, 512, 2048, 8192])
    parser.add_argument("--routing", nargs="+", default=["uniform"], choices=ROUTINGS)
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument(
        "--contenders",
        nargs="+",
        default=["moe_dispatch", "grouped_mm", "loop"],
        help=f"{', '.join(CONTENDERS)}, or an adapter of the conformance suite",
    )
    parser.add_argument("--output", type=Path, default=Path("bench.jsonl"))
    return parser.parse_args()


def _read(path: Path) -> set[tuple[Any, ...]]:
    if not path.is_file():
        return set()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    keys = ("device", "shape", "tokens", "routing", "dtype", "contender")
    return {tuple(row[key] for key in keys) for row in rows}


def _measure(
    layer: Layer, key: dict[str, Any], contenders: list[str], bandwidth: float
) -> Iterator[dict[str, Any]]:
    """One row per contender: seconds, the two floors, and the error against float32."""
    shape, dtype = layer.shape, layer.gate_up_proj.dtype
    tokens = key["tokens"]
    batches = [
        make_batch(shape, tokens, routing=key["routing"], dtype=dtype, seed=seed)
        for seed in range(8 if tokens <= 256 else 2)
    ]
    active = sum(batch.active_experts() for batch in batches) / len(batches)
    slots = tokens * shape.top_k
    moved = shape.weight_bytes(1, dtype.itemsize) * active
    moved += 2 * batches[0].hidden_states.nbytes
    floors = {
        "streaming_seconds": moved / bandwidth,
        "dense_seconds": dense_seconds(shape, slots, dtype),
        "flops": shape.flops(slots),
        "bytes": moved,
    }
    for name in contenders:
        experts = find_contender(name)
        calls = [partial(experts, *_arguments(layer, batch)) for batch in batches]
        error = _relative_error(layer, batches[0], calls[0]())
        if not error <= _LARGEST_RELATIVE_ERROR[key["dtype"]]:
            raise AssertionError(f"{name} is wrong on {key}: relative error {error:.2e}")
        captured = name not in CANNOT_BE_CAPTURED
        yield {
            **key,
            "contender": name,
            "seconds": graph_seconds(calls) if captured else eager_seconds(calls),
            "captured": captured,
            "host_seconds": host_seconds(calls[0]) if captured and tokens <= 4 else None,
            "layer_host_seconds": _layer_host_seconds(layer, batches[0])
            if name == "moe_dispatch" and tokens <= 4
            else None,
            "relative_error": error,
            **floors,
        }


def _arguments(layer: Layer, batch: Batch) -> tuple[torch.Tensor, ...]:
    weights = (layer.gate_up_proj, layer.down_proj)
    return (batch.hidden_states, *weights, batch.topk_ids, batch.topk_weights)


def _layer_host_seconds(layer: Layer, batch: Batch) -> float:
    """The host's time for one eager call of the layer, router included."""
    weights = (layer.gate_up_proj, layer.down_proj)
    router_weight = torch.randn(
        (layer.shape.num_experts, layer.shape.hidden_size), device="cuda"
    ).to(batch.hidden_states.dtype)
    call = partial(fused_moe, batch.hidden_states, router_weight, *weights, batch.topk_ids.shape[1])
    return host_seconds(call)


def _relative_error(layer: Layer, batch: Batch, output: Any) -> float:
    """Frobenius norm of the error over the norm of the result, on the first tokens."""
    few = slice(0, _CHECKED_TOKENS)
    ids = batch.topk_ids[few]
    wanted = torch.zeros((len(ids), layer.shape.hidden_size), device="cuda")
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


def _line(row: dict[str, Any]) -> str:
    floor = max(row["streaming_seconds"], row["dense_seconds"])
    host = f", host {row['host_seconds'] * 1e6:.0f} us" if row["host_seconds"] else ""
    if row["layer_host_seconds"]:
        host += f" (whole layer {row['layer_host_seconds'] * 1e6:.0f} us)"
    return (
        f"{row['shape']:>16} {row['tokens']:>5} tokens {row['routing']:>12} "
        f"{row['contender']:>12} {row['seconds'] * 1e6:9.1f} us; of streaming "
        f"{row['streaming_seconds'] / row['seconds']:.2f}, of dense "
        f"{row['dense_seconds'] / row['seconds']:.2f}, of the floor {floor / row['seconds']:.2f}"
        f"{host}"
    )


if __name__ == "__main__":
    main()
