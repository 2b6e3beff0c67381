"""The benchmark, on a GPU made up here whose clock falls as it warms."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise, permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from moe_dispatch_bench import __main__ as benchmark
from moe_dispatch_bench import cell, contenders, floors, roofline, timing, tune
from moe_dispatch_bench.workload import Shape, make_batch, make_layer, model_shape

from moe_dispatch.target import device_type
from moe_dispatch.tile_config import configs

SMALL = Shape("Small", 32, 16, 4, 2)
COLD_SHARE = 0.5
"""Of the time that work takes on the warm GPU, what it takes less on the cold one."""


@dataclass
class Gpu:
    """Work advances the clock, or is captured; `replay` does what was captured again."""

    now: float = 0.0
    captured: list[float] | None = None
    pools: list[object] = field(default_factory=list)
    done: list[float] = field(default_factory=list)

    def work(self, seconds: float) -> None:
        if self.captured is not None:
            self.captured.append(seconds)
            return
        self.done.append(seconds)
        self.now += seconds * (1 - COLD_SHARE * math.exp(-self.now))

    @contextmanager
    def graph(self, graph: Graph, *, pool: object) -> Iterator[None]:
        self.pools.append(pool)
        self.captured = graph.work
        yield
        self.captured = None


class Graph:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.work: list[float] = []

    def replay(self) -> None:
        for seconds in self.work:
            self.gpu.work(seconds)


class Event:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.at = math.nan

    def record(self) -> None:
        self.at = self.gpu.now

    def elapsed_time(self, end: Event) -> float:
        return (end.at - self.at) * 1e3


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: gpu.now))
    for name, stand_in in {
        "CUDAGraph": lambda: Graph(gpu),
        "Event": lambda enable_timing: Event(gpu),
        "empty_cache": lambda: None,
        "get_device_name": lambda: "a GPU",
        "get_device_properties": lambda: SimpleNamespace(multi_processor_count=2),
        "graph": gpu.graph,
        "graph_pool_handle": object,
        "synchronize": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return gpu


def test_nobody_gains_by_being_measured_first(gpu: Gpu) -> None:
    takes = {"a": 0.03, "b": 0.03, "c": 0.06, "d": 0.03}
    calls = {name: [lambda each=each: gpu.work(each)] * 2 for name, each in takes.items()}
    seconds = timing.seconds_in_turns(calls, eager={"d"})
    for name, each in takes.items():
        assert seconds[name] / seconds["a"] == pytest.approx(each / takes["a"], rel=0.02)
    assert 0.03 * (1 - COLD_SHARE) < seconds["a"] < 0.03
    assert len(gpu.pools) == 3
    assert len(set(gpu.pools)) == 1


def test_turns(gpu: Gpu) -> None:
    called: Counter[float] = Counter()

    def call(seconds: float) -> Callable[[], None]:
        def run() -> None:
            called[seconds] += 1
            gpu.work(seconds)

        return run

    timing.seconds_in_turns({seconds: [call(seconds)] for seconds in (1, 2, 3, 4)}, eager={4})
    # What is captured is called once before and once for that.
    assert {name: called[name] for name in (1, 2, 3)} == {1: 2, 2: 2, 3: 2}
    first, warming, turns = gpu.done[:4], gpu.done[4:8], gpu.done[8:]
    assert first == warming == [1, 2, 3, 4]
    assert len(turns) == 8 * 4 * 4
    who = turns[::4]
    assert turns == [seconds for seconds in who for _ in range(4)]
    assert all(set(who[at : at + 4]) == {1, 2, 3, 4} for at in range(0, 32, 4))
    assert set(pairwise(who)) >= set(permutations((1, 2, 3, 4), 2))


@pytest.mark.parametrize("count", range(1, 8))
def test_orders_are_balanced(count: int) -> None:
    orders = timing.balanced_orders(count)
    times = len(orders) // count
    assert Counter(place for order in orders for place in enumerate(order)) == {
        (place, who): times for place in range(count) for who in range(count)
    }
    neighbours = Counter(pair for order in orders for pair in pairwise(order))
    assert neighbours == {
        (one, other): times for one in range(count) for other in range(count) if one != other
    }


def test_read_kernel_reads_each_block_once() -> None:
    blocks = torch.arange(8, dtype=torch.int32, device=device_type())
    source = -(1 << blocks[:, None].expand(8, 16)).contiguous()
    sums = torch.zeros((3, 16), dtype=torch.int32, device=device_type())
    floors.read_kernel[(3,)](source, sums, 6, 5, BLOCK=16, SOURCE_BLOCKS=8)
    wanted = [-(1 << 6) - (1 << 1), -(1 << 7) - (1 << 2), -(1 << 0)]
    assert sums.tolist() == [[each] * 16 for each in wanted]


@pytest.fixture
def reader(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> floors.Reader:
    """With a buffer of 64 blocks of 64 bytes; the GPU likes 8 programs best."""
    for name, value in {"_BLOCK": 16, "_BLOCK_BYTES": 64, "_SOURCE_BLOCKS": 64}.items():
        monkeypatch.setattr(floors, name, value)
    monkeypatch.setattr(floors, "_SMALL_BYTES", 16 * 64)
    read = floors.Reader._read

    def read_and_take_time(own: floors.Reader, first: int, blocks: int, programs: int) -> None:
        read(own, first, blocks, programs)
        gpu.work(blocks * (1 + abs(programs - 8)))

    monkeypatch.setattr(floors.Reader, "_read", read_and_take_time)
    return floors.Reader()


def test_reader(reader: floors.Reader) -> None:
    calls = reader.calls([20 * 64, 1, 17 * 64 - 1, 40 * 64])
    # (first block, blocks, programs): 20 blocks are 3 rounds, for which 7 programs are enough.
    assert [call.args for call in calls] == [(0, 20, 7), (20, 1, 1), (21, 17, 6), (38, 40, 8)]
    assert reader.bandwidth == pytest.approx(64 * 64 / 64, rel=0.1)
    reader._negative.fill_(7)
    for call in calls:
        call()
    assert bool((reader._negative == 7).all())

    reader._source.fill_(-1)
    calls[0]()
    assert reader._negative[:, 0].tolist() == [-3] * 6 + [-2] + [7] * 5


def test_cell(gpu: Gpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def experts(seconds: float) -> Callable[..., torch.Tensor]:
        def run(*arguments: torch.Tensor) -> torch.Tensor:
            gpu.work(seconds)
            return contenders.loop_over_experts(*arguments)

        return run

    for name, seconds in {"moe_dispatch": 2.0, "loop": 6.0}.items():
        monkeypatch.setitem(contenders.CONTENDERS, name, experts(seconds))
    monkeypatch.setattr(cell, "dense_call", lambda *_: lambda: gpu.work(0.5))
    sizes: list[int] = []

    def reads(wanted: list[int]) -> list[Callable[[], None]]:
        sizes.extend(wanted)
        return [lambda: gpu.work(1.0)] * len(wanted)

    layer = make_layer(SMALL, torch.bfloat16)
    stand_in: Any = SimpleNamespace(bandwidth=1e6, calls=reads)
    rows = cell.measure_cell(
        layer, stand_in, tokens=6, routing="one_each", contenders=["loop", "moe_dispatch"]
    )
    assert [row["contender"] for row in rows] == ["loop", "moe_dispatch"]
    assert [row["captured"] for row in rows] == [False, True]
    assert [row["seconds"] for row in rows] == pytest.approx([6.0, 2.0], rel=0.01)
    moved = 4 * 3 * 32 * 16 * 2 + 2 * 6 * 32 * 2
    assert sizes == [moved] * 8
    for row in rows:
        assert row["bytes"] == moved
        assert row["streaming_seconds"] == moved / 1e6
        assert row["read_seconds"] == pytest.approx(1.0, rel=0.01)
        assert row["dense_seconds"] == pytest.approx(0.5, rel=0.01)

    key = {"device": "a GPU", "shape": "Small", "tokens": 6, "routing": "one_each"}
    path = tmp_path / "cell.jsonl"
    path.write_text("".join(json.dumps(key | row) + "\n" for row in rows), encoding="utf-8")
    assert "| 3.00 |" in roofline.table(roofline.read(path))

    def wrong(hidden_states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return torch.full_like(hidden_states, math.nan)

    monkeypatch.setitem(contenders.CONTENDERS, "moe_dispatch", wrong)
    with pytest.raises(AssertionError, match="moe_dispatch is wrong on 6 tokens of Small"):
        cell.measure_cell(
            layer, stand_in, tokens=6, routing="one_each", contenders=["moe_dispatch"]
        )


def test_started_again(gpu: Gpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured: list[tuple[int, list[str]]] = []

    def measure(*_: Any, tokens: int, routing: str, contenders: list[str]) -> list[dict[str, Any]]:
        if tokens == 3 and not measured[1:]:
            raise KeyboardInterrupt
        measured.append((tokens, contenders))
        figures = ("seconds", "streaming_seconds", "read_seconds", "dense_seconds")
        common = dict.fromkeys(figures, 1.0) | {"host_seconds": None, "layer_host_seconds": None}
        return [{"contender": name} | common for name in contenders]

    monkeypatch.setattr(benchmark, "measure_cell", measure)
    monkeypatch.setattr(benchmark, "Reader", lambda: SimpleNamespace(bandwidth=1e12))
    monkeypatch.setattr(benchmark, "make_layer", lambda *_: None)
    path = tmp_path / "run.jsonl"

    def run(*contenders: str) -> None:
        command = ["", "--shapes", "Mixtral-8x7B", "--tokens", "2", "3", "--output", str(path)]
        monkeypatch.setattr("sys.argv", [*command, "--contenders", *contenders])
        benchmark.main()

    with pytest.raises(KeyboardInterrupt):
        run("a", "b")
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    run("a", "b", "c")
    assert measured == [(2, ["a", "b"]), (2, ["c"]), (3, ["a", "b", "c"])]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 6


@pytest.mark.parametrize(
    ("tokens", "heights"), [(1, (16, 64)), (64, (32, 64, 128)), (2048, (64, 128, 144, 160))]
)
def test_tiles_tried(
    tokens: int, heights: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table's own tiles first, and others of the same heights."""
    entries = configs(arch="sm_90", element_size=2).values()
    (entry, *_) = [entry for entry in entries if entry.heights == heights]
    monkeypatch.setattr(tune, "_entry_of_table", lambda *_: entry)
    found = [
        candidate
        for candidate in tune.candidates(model_shape("Mixtral-8x7B"), tokens)
        if isinstance(candidate.tile, tune.GemmTile)
    ]
    assert len(set(found)) == len(found)
    assert [candidate.tile for candidate in found[:2]] == [entry.gate_up, entry.down]
    without_tails = {(entry.block_m,)} if tokens == 2048 else set()
    assert {candidate.heights for candidate in found} == {heights} | without_tails
    products = {candidate.product for candidate in found}
    large_batch = {"joint_gate_up", "persistent_down"} if tokens == 2048 else set()
    assert products == {"gate_up", "down", *large_batch}
    for candidate in found:
        tile, operands = candidate.tile, 2 if candidate.product.endswith("gate_up") else 1
        for height, stages in zip(candidate.heights, tile.num_stages, strict=True):
            assert stages >= 2
            elements = tile.block_k * (height + operands * tile.block_n)
            assert 2 * elements * stages <= 227 * 1024


@pytest.mark.parametrize(
    ("product", "other"), [("joint_gate_up", "gate_up"), ("persistent_down", "down")]
)
def test_large_batch_candidates_multiply_as_the_others(product: str, other: str) -> None:
    shape = Shape("small", hidden_size=48, intermediate_size=32, num_experts=3, top_k=2)
    layer = make_layer(shape, torch.bfloat16)
    batch = make_batch(shape, 40, routing="zipf", dtype=torch.bfloat16, seed=0)
    tile = tune.GemmTile(16, 16, 2, 4, (1,), by_descriptor=True)

    def result(product: str) -> torch.Tensor:
        torch.manual_seed(0)
        return tune._call(tune.Candidate(product, (16,), tile), layer, batch)()

    torch.testing.assert_close(result(product), result(other), rtol=1e-2, atol=1e-2)
