"""Bytes that a call moves: ``python -m moe_dispatch_bench.traffic --architectures sm_90 gfx942``.

Counted from the arguments of the call's launches, and compared with the least that any kernel must
move: the active experts' weights, the input and the output, each once. No GPU is needed: the
launches are those planned for an architecture by its name, on tensors without memory, and they are
recorded instead of made.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from moe_dispatch.eager import plan_experts
from moe_dispatch.launch import Launch
from moe_dispatch.sizes import cdiv
from moe_dispatch.tensor_spec import TensorSpec
from moe_dispatch_bench.workload import ROUTINGS, Shape, model_shape, route_tokens

_SHAPES = ("Mixtral-8x7B", "Qwen3-30B-A3B", "Qwen2-57B-A14B", "gpt-oss-120b", "DeepSeek-V3")
_TOKENS = (1, 8, 32, 128, 512, 2048, 8192)
_MULTIPROCESSORS = 132
"""Of an H200. Other numbers change up to where tiles are few."""

_Arguments = dict[str, Any]


@dataclass(frozen=True)
class Traffic:
    """Bytes of one launch.

    moved: each byte that it reads or writes, once: what memory must deliver if the caches hold what
    several programs read. weights_loaded: bytes of the experts' weights that its programs load,
    again for each tile of rows.
    """

    kernel: str
    moved: int
    weights_loaded: int = 0


@dataclass(frozen=True)
class CallTraffic:
    """Bytes of one call.

    minimum: the active experts' weights, x, the ids, their weights and the output, each once.
    weights: those of the active experts. allocated: of all tensors that the call makes, the output
    among them.
    """

    launches: tuple[Traffic, ...]
    minimum: int
    weights: int
    allocated: int

    @property
    def moved(self) -> int:
        return sum(launch.moved for launch in self.launches)

    @property
    def weight_passes(self) -> float:
        """How often the active experts' weights are loaded, on average."""
        return sum(launch.weights_loaded for launch in self.launches) / self.weights


@dataclass(frozen=True)
class _Routed:
    """What launches do not have among their arguments: sizes, and rows of each active expert."""

    shape: Shape
    element_size: int
    num_tokens: int
    rows: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Of x, y and the output."""
        return self.shape.hidden_size * self.element_size

    @property
    def h_bytes(self) -> int:
        return sum(self.rows) * self.shape.intermediate_size * self.element_size

    @property
    def y_bytes(self) -> int:
        return sum(self.rows) * self.row_bytes

    @property
    def projection_bytes(self) -> int:
        """Of one active expert's gate, up or down."""
        return self.shape.hidden_size * self.shape.intermediate_size * self.element_size

    def tiles(self, block_m: int, tail: int) -> int:
        """How many the schedule cuts (see `moe_dispatch.schedule`)."""
        return sum(max(1, cdiv(rows - tail, block_m)) for rows in self.rows)


def count_traffic(
    shape: Shape, topk_ids: torch.Tensor, *, arch: str, dtype: torch.dtype = torch.bfloat16
) -> CallTraffic:
    """Bytes of one call of `fused_experts` on contiguous tensors.

    topk_ids: (T, K) int32 on the CPU, all in [0, E). arch: a key of the tables in
    `moe_dispatch.tile_config`, or "interpreter".
    """
    hidden_size, num_experts = shape.hidden_size, shape.num_experts
    sizes = (
        (topk_ids.shape[0], hidden_size),
        (num_experts, 2 * shape.intermediate_size, hidden_size),
        (num_experts, hidden_size, shape.intermediate_size),
    )
    x, gate_up_proj, down_proj = [torch.empty(s, dtype=dtype, device="meta") for s in sizes]
    weights = torch.empty(topk_ids.shape, device="meta")
    tensors = (x, gate_up_proj, down_proj, topk_ids.to("meta"), weights)
    plan = plan_experts(
        *map(TensorSpec.of, tensors),
        arch=arch,
        multiprocessors=_MULTIPROCESSORS,
        allow_tf32=False,
        batch_invariant=False,
    )
    rows = [count for count in topk_ids.flatten().bincount().tolist() if count]
    routed = _Routed(shape, dtype.itemsize, topk_ids.shape[0], tuple(rows))
    launches: list[Traffic] = []

    def record(launch: Launch, *tensors: torch.Tensor) -> None:
        count = _COUNTED[launch.kernel_name]
        launches.append(count(launch.kernel_name, routed, launch.arguments(*tensors)))

    with patch.object(Launch, "__call__", record), _Allocations() as allocations:
        plan(*tensors)
    active = shape.weight_bytes(len(rows), dtype.itemsize)
    minimum = active + 2 * x.nbytes + topk_ids.nbytes + weights.nbytes
    return CallTraffic(tuple(launches), minimum, active, allocations.bytes)


class _Allocations(TorchDispatchMode):
    """Adds up the tensors that are made while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        if operation is torch.ops.aten.new_empty.default:
            self.bytes += result.nbytes
        return result


def _count_slots(kernel: str, routed: _Routed, arguments: _Arguments) -> Traffic:
    return Traffic(kernel, arguments["ids_ptr"].nbytes + arguments["counts_ptr"].nbytes)


def _schedule(kernel: str, routed: _Routed, arguments: _Arguments) -> Traffic:
    return Traffic(kernel, arguments["ids_ptr"].nbytes + arguments["schedule_ptr"].nbytes)


def _gate_up_traffic(
    kernel: str, routed: _Routed, *, passes: int, columns: int, small: int
) -> Traffic:
    """passes: row tiles or slots, each of which loads its expert's. small: bytes beside these."""
    moved = len(routed.rows) * 2 * routed.projection_bytes + routed.h_bytes
    moved += routed.num_tokens * routed.row_bytes + small
    return Traffic(kernel, moved, passes * 2 * columns * routed.row_bytes)


def _gate_up(kernel: str, routed: _Routed, arguments: _Arguments) -> Traffic:
    block_m = arguments["BLOCK_M"]
    return _gate_up_traffic(
        kernel,
        routed,
        passes=routed.tiles(block_m, arguments["HEIGHTS"][-1] - block_m),
        columns=arguments["column_tiles"] * arguments["BLOCK_N"],
        small=arguments["schedule_ptr"].nbytes,
    )


def _gemv_gate_up(kernel: str, routed: _Routed, arguments: _Arguments) -> Traffic:
    return _gate_up_traffic(
        kernel,
        routed,
        passes=sum(routed.rows),
        columns=_overhanging(arguments["INTERMEDIATE_SIZE"], arguments["BLOCK_N"]),
        small=arguments["ids_ptr"].nbytes,
    )


def _down_traffic(
    kernel: str, routed: _Routed, *, passes: int, columns: int, result: int, small: int
) -> Traffic:
    """result: bytes that it writes. The others as for `_gate_up_traffic`."""
    moved = len(routed.rows) * routed.projection_bytes + routed.h_bytes + result + small
    weight_row = routed.shape.intermediate_size * routed.element_size
    return Traffic(kernel, moved, passes * columns * weight_row)


def _down(kernel: str, routed: _Routed, arguments: _Arguments) -> Traffic:
    block_m = arguments["BLOCK_M"]
    tiles = routed.tiles(block_m, arguments["HEIGHTS"][-1] - block_m)
    columns = arguments["column_tiles"] * arguments["TILE"][0]
    narrow = arguments["NARROW_TILE"]
    if narrow is not None and tiles * arguments["column_tiles"] <= arguments["few_up_to"]:
        columns = arguments["narrow_column_tiles"] * narrow[0]
    small = arguments["schedule_ptr"].nbytes
    return _down_traffic(
        kernel, routed, passes=tiles, columns=columns, result=routed.y_bytes, small=small
    )


def _persistent_down(kernel: str, routed: _Routed, arguments: _Arguments) -> Traffic:
    return _down_traffic(
        kernel,
        routed,
        passes=routed.tiles(arguments["BLOCK_M"], 0),
        columns=arguments["column_tiles"] * arguments["BLOCK_N"],
        result=routed.y_bytes,
        small=arguments["schedule_ptr"].nbytes,
    )


def _gemv_down(kernel: str, routed: _Routed, arguments: _Arguments) -> Traffic:
    return _down_traffic(
        kernel,
        routed,
        passes=sum(routed.rows),
        columns=_overhanging(arguments["HIDDEN_SIZE"], arguments["BLOCK_N"]),
        result=routed.num_tokens * routed.row_bytes,
        small=arguments["ids_ptr"].nbytes + arguments["weights_ptr"].nbytes,
    )


def _overhanging(columns: int, block: int) -> int:
    """Columns of as many whole blocks as cover these."""
    return cdiv(columns, block) * block


def _combine(kernel: str, routed: _Routed, arguments: _Arguments) -> Traffic:
    small = arguments["ids_ptr"].nbytes + arguments["weights_ptr"].nbytes
    return Traffic(kernel, routed.y_bytes + routed.num_tokens * routed.row_bytes + small)


_COUNTED: dict[str, Callable[[str, _Routed, _Arguments], Traffic]] = {
    "count_kernel": _count_slots,
    "schedule_kernel": _schedule,
    "gate_up_kernel": _gate_up,
    "joint_gate_up_kernel": _gate_up,
    "down_kernel": _down,
    "persistent_down_kernel": _persistent_down,
    "combine_kernel": _combine,
    "gemv_gate_up_kernel": _gemv_gate_up,
    "gemv_down_kernel": _gemv_down,
}


def table(
    architectures: Sequence[str],
    shapes: Sequence[str],
    tokens: Sequence[int],
    routings: Sequence[str],
) -> str:
    """A Markdown table: what calls in bf16 move beside the minimum."""
    lines = [
        "| architecture | shape | routing | tokens | minimum, GB | moved, GB | times the minimum "
        "| weights loaded, times |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for arch in architectures:
        for shape in map(model_shape, shapes):
            for routing in routings:
                for num_tokens in tokens:
                    generator = torch.Generator().manual_seed(0)
                    ids = route_tokens(shape, num_tokens, routing=routing, generator=generator)
                    call = count_traffic(shape, ids, arch=arch)
                    lines.append(
                        f"| {arch} | {shape.name} | {routing} | {num_tokens} "
                        f"| {call.minimum / 1e9:.3f} | {call.moved / 1e9:.3f} "
                        f"| {call.moved / call.minimum:.2f} | {call.weight_passes:.2f} |"
                    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="moe_dispatch_bench.traffic", description=__doc__)
    parser.add_argument("--architectures", nargs="+", default=["sm_90", "gfx942"])
    parser.add_argument("--shapes", nargs="+", default=_SHAPES)
    parser.add_argument("--tokens", nargs="+", type=int, default=_TOKENS)
    parser.add_argument("--routing", nargs="+", default=["uniform"], choices=ROUTINGS)
    options = parser.parse_args()
    print(table(options.architectures, options.shapes, options.tokens, options.routing))


if __name__ == "__main__":
    main()
