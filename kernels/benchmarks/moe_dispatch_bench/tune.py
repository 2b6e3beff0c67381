"""Search for tiles: ``python -m moe_dispatch_bench.tune --shapes Mixtral-8x7B --tokens 1 2048``.

Times each product of moe_dispatch alone, in a replayed graph, for every candidate tile that suits
the rows per expert, and writes one JSON line per candidate. The first candidate is the tile of the
entry in ``tile_config.py`` that serves so many rows now; all have that entry's heights, or those
asked for. ``moe_dispatch_bench.tile_table`` makes the entries from such files. Candidates are
compiled beforehand by many processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch

from moe_dispatch.down import plan_down
from moe_dispatch.gate_up import plan_gate_up
from moe_dispatch.gemv import plan_gemv_down, plan_gemv_gate_up
from moe_dispatch.gemv_config import GemvTile
from moe_dispatch.joint_gate_up import plan_joint_gate_up
from moe_dispatch.persistent_down import plan_persistent_down
from moe_dispatch.schedule import max_tiles, plan_schedule
from moe_dispatch.target import architecture, multiprocessors
from moe_dispatch.tensor_spec import TensorSpec
from moe_dispatch.tile_config import GemmTile, TileConfig, select_tiles
from moe_dispatch_bench.timing import seconds_in_turns
from moe_dispatch_bench.workload import Batch, Layer, Shape, make_batch, make_layer, model_shape

_STAGES = (2, 3, 4, 5)
_PRODUCTS = {"gate_up": 2, "down": 1}  # and how many weight tiles each loads per step
_JOINT = "joint_gate_up"
_PERSISTENT = "persistent_down"
_LARGE_BATCH_HEIGHT = 128  # persistent_down's without tails: its schedule has no others
_SHARED_MEMORY = 227 * 1024  # of one sm_90 block
_ROUNDS = 4


@dataclass(frozen=True)
class Candidate:
    """One tile of one of the products; the height is 1 for matrix-vector products."""

    product: str
    heights: tuple[int, ...]
    tile: GemmTile | GemvTile


def candidates(
    shape: Shape, num_tokens: int, heights: tuple[int, ...] | None = None
) -> list[Candidate]:
    """Tiles worth trying for the mean number of rows per expert, once each, the table's first.

    heights: in place of the table's.
    """
    return [*dict.fromkeys(_candidates(shape, num_tokens, heights))]


def _candidates(
    shape: Shape, num_tokens: int, heights: tuple[int, ...] | None
) -> Iterator[Candidate]:
    entry = _entry_of_table(shape, num_tokens)
    heights = heights or entry.heights
    if heights == entry.heights:
        for name in (*_PRODUCTS, _JOINT):
            if tile := getattr(entry, name):
                yield Candidate(name, heights, tile)
        if entry.persistent_down:
            yield Candidate(_PERSISTENT, (entry.block_m,), entry.persistent_down)
    if num_tokens == 1:
        yield from _gemv_candidates()
    for name, by_descriptor in product(_PRODUCTS, (False, True)):
        operands = _PRODUCTS[name]
        for block_n, block_k, warps in product((64, 128, 256), (64, 128, 256), (4, 8)):
            stage_bytes = [2 * block_k * (height + operands * block_n) for height in heights]
            accumulators = [operands * height * block_n / (32 * warps) for height in heights]
            most_stages = [_SHARED_MEMORY // size for size in stage_bytes]
            if stage_bytes[0] < 12 * 1024 or most_stages[-1] < _STAGES[0]:
                continue
            if accumulators[0] < 4 or accumulators[-1] > 160:
                continue
            group = 1 if heights[-1] <= 32 else 8
            fitting = dict.fromkeys(
                tuple(min(stages, most) for most in most_stages) for stages in _STAGES
            )
            for stages in list(fitting)[-2:]:
                tile = GemmTile(block_n, block_k, group, warps, stages, by_descriptor)
                yield Candidate(name, heights, tile)
    if num_tokens * shape.top_k >= shape.num_experts * _LARGE_BATCH_HEIGHT / 2:
        yield from _joint_candidates(heights)
        yield from _persistent_candidates()


def _joint_candidates(heights: tuple[int, ...]) -> Iterator[Candidate]:
    for block_n, block_k, group in product((64, 128), (64, 128), (4, 8)):
        most_stages = _SHARED_MEMORY // (2 * block_k * (heights[-1] + 2 * block_n))
        for count in [count for count in _STAGES if count <= most_stages][-2:]:
            stages = (count,) * len(heights)
            tile = GemmTile(block_n, block_k, group, 8, stages, by_descriptor=True)
            yield Candidate(_JOINT, heights, tile)


def _persistent_candidates() -> Iterator[Candidate]:
    for block_n, block_k, group in product((128, 256), (64, 128), (4, 8)):
        most_stages = _SHARED_MEMORY // (2 * block_k * (_LARGE_BATCH_HEIGHT + block_n))
        for stages in [count for count in _STAGES if count <= most_stages][-2:]:
            tile = GemmTile(block_n, block_k, group, 8, (stages,), by_descriptor=True)
            yield Candidate(_PERSISTENT, (_LARGE_BATCH_HEIGHT,), tile)


def _entry_of_table(shape: Shape, num_tokens: int) -> TileConfig:
    return select_tiles(
        arch=architecture(torch.device("cuda")),
        element_size=2,
        num_slots=num_tokens * shape.top_k,
        num_experts=shape.num_experts,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        batch_invariant=False,
    )


def _gemv_candidates() -> Iterator[Candidate]:
    for name, block_n, block_k, warps in product(
        _PRODUCTS, (2, 4, 8, 16, 32), (256, 512, 1024, 2048), (2, 4, 8)
    ):
        elements = _PRODUCTS[name] * block_n * block_k / (32 * warps)
        if 16 <= elements <= 128:
            yield Candidate(name, (1,), GemvTile(block_n, block_k, warps))


def main() -> None:
    parser = argparse.ArgumentParser(prog="moe_dispatch_bench.tune", description=__doc__)
    parser.add_argument("--shapes", nargs="+", required=True)
    parser.add_argument("--tokens", nargs="+", type=int, required=True)
    parser.add_argument("--heights", nargs="+", type=int, help="instead of the table's")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--output", type=Path, default=Path("tune.jsonl"))
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    shapes = [model_shape(name) for name in options.shapes]
    heights = tuple(options.heights) if options.heights else None
    wanted = {
        (candidate, shape.top_k)
        for shape in shapes
        for tokens in options.tokens
        for candidate in candidates(shape, tokens, heights)
    }
    _compile_all(sorted(wanted, key=str))
    print(f"{len(wanted)} candidates compiled", flush=True)
    for shape in shapes:
        layer = make_layer(shape, torch.bfloat16)
        for tokens in options.tokens:
            tried = candidates(shape, tokens, heights)
            _search(layer, tokens, tried, options.output, deadline)
        del layer
        torch.cuda.empty_cache()


def _search(
    layer: Layer, tokens: int, tried: Iterable[Candidate], output: Path, deadline: float
) -> None:
    shape = layer.shape
    batches = [
        make_batch(shape, tokens, routing="uniform", dtype=torch.bfloat16, seed=seed)
        for seed in range(4 if tokens <= 256 else 1)
    ]
    best: dict[tuple[str, tuple[int, ...]], tuple[float, Candidate]] = {}
    for candidate in tried:
        if time.monotonic() > deadline:
            print("out of time")
            return
        try:
            seconds = _seconds(candidate, layer, batches)
        except Exception as error:  # too large for this GPU: a result of the search too
            print(f"{candidate}: {type(error).__name__}: {str(error)[:80]}")
            continue
        row = {
            "device": torch.cuda.get_device_name(),
            "arch": architecture(torch.device("cuda")),
            "shape": shape.name,
            "tokens": tokens,
            "product": candidate.product,
            "heights": candidate.heights,
            **candidate.tile._asdict(),
            "seconds": seconds,
        }
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        key = (candidate.product, candidate.heights)
        best[key] = min(best.get(key, (seconds, candidate)), (seconds, candidate))
    for (name, heights), (seconds, candidate) in sorted(best.items()):
        print(f"{shape.name} {tokens} {name} {heights}: {seconds * 1e6:.1f} us {candidate.tile}")


def _seconds(candidate: Candidate, layer: Layer, batches: list[Batch]) -> float:
    calls = [_call(candidate, layer, batch) for batch in batches]
    return seconds_in_turns({candidate: calls}, least_rounds=_ROUNDS)[candidate]


def _call(candidate: Candidate, layer: Layer, batch: Batch) -> Callable[[], torch.Tensor]:
    """The candidate's product alone, its schedule and its input made beforehand."""
    x, ids, weights = batch.hidden_states, batch.topk_ids, batch.topk_weights
    h = torch.randn((ids.numel(), layer.shape.intermediate_size), device=x.device).to(x.dtype)
    of_x, of_h, of_ids, of_gate_up, of_down = map(
        TensorSpec.of, (x, h, ids, layer.gate_up_proj, layer.down_proj)
    )
    tile = candidate.tile
    if isinstance(tile, GemvTile):
        if candidate.product == "gate_up":
            run = plan_gemv_gate_up(of_x, of_gate_up, of_ids, tile=tile)
            return partial(run, x, layer.gate_up_proj, ids)
        run = plan_gemv_down(of_down, of_ids, TensorSpec.of(weights), tile=tile)
        return partial(run, h, layer.down_proj, ids, weights)
    tiles = TileConfig(candidate.heights, tile, tile)
    num_experts = layer.shape.num_experts
    most_tiles = max_tiles(num_slots=ids.numel(), num_experts=num_experts, block_m=tiles.block_m)
    schedule = plan_schedule(
        of_ids,
        num_experts,
        max_tiles=most_tiles,
        block_m=tiles.block_m,
        tail=tiles.tail,
        without_tails=candidate.product == _PERSISTENT,
    )(ids)
    if candidate.product == _PERSISTENT:
        run = plan_persistent_down(
            of_h,
            of_down,
            max_tiles=most_tiles,
            programs=multiprocessors(x.device),
            block_m=tiles.block_m,
            tile=tile,
            allow_tf32=False,
        )
        return partial(run, h, layer.down_proj, schedule)
    if candidate.product == _JOINT:
        run = plan_joint_gate_up(
            of_x,
            of_gate_up,
            max_tiles=most_tiles,
            top_k=layer.shape.top_k,
            heights=tiles.heights,
            block_m=tiles.block_m,
            tile=tile,
            allow_tf32=False,
        )
        return partial(run, x, layer.gate_up_proj, schedule)
    if candidate.product == "gate_up":
        run = plan_gate_up(
            of_x,
            of_gate_up,
            max_tiles=most_tiles,
            top_k=layer.shape.top_k,
            programs=multiprocessors(x.device),
            tiles=tiles,
            allow_tf32=False,
        )
        return partial(run, x, layer.gate_up_proj, schedule)
    run = plan_down(
        of_h,
        of_down,
        max_tiles=most_tiles,
        programs=multiprocessors(x.device),
        tiles=tiles,
        allow_tf32=False,
    )
    return partial(run, h, layer.down_proj, schedule)


def _compile_all(wanted: list[tuple[Candidate, int]]) -> None:
    """Fill Triton's cache on disk from many processes."""
    workers = max(1, (os.cpu_count() or 2) - 1)
    chunks = [wanted[first::workers] for first in range(workers)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_compile, chunks))


def _compile(wanted: list[tuple[Candidate, int]]) -> None:
    """Run each candidate once on sizes that give the same compiled kernel as the real ones."""
    for candidate, top_k in wanted:
        if isinstance(candidate.tile, GemvTile):
            continue  # compiled for the very sizes
        shape = Shape("small", 512, 512, 16, top_k)
        layer = make_layer(shape, torch.bfloat16)
        batch = make_batch(shape, 16, routing="uniform", dtype=torch.bfloat16, seed=0)
        with contextlib.suppress(Exception):  # the search reports it
            _call(candidate, layer, batch)()


if __name__ == "__main__":
    main()
