"""Time on the GPU, of several implementations in turns; and the host's share of an eager call."""

from __future__ import annotations

import statistics
import time
import timeit
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch

Call = Callable[[], object]
Name = TypeVar("Name")
_LEAST_ROUNDS = 8
_TIMED_RUNS = 3
_WARM_SECONDS = 0.03
_HOST_CALLS = 50  # with several launches each, fewer than a stream's queue holds


def seconds_in_turns(
    calls: Mapping[Name, Sequence[Call]],
    *,
    eager: Collection[Name] = (),
    least_rounds: int = _LEAST_ROUNDS,
) -> dict[Name, float]:
    """Median seconds of one call of each name, measured in turns.

    A name's calls are captured in one graph; several calls on different data keep caches from
    holding what a real caller would have to fetch. Those of ``eager`` are called one by one.
    Then the names take turns, round by round, since a GPU's clock falls as it warms: measured one
    after the other, the first would look fastest. In its turn a name runs once untimed, which
    fills the caches with its own data and hides the launch, and three times between two events.
    """
    for own in calls.values():
        for call in own:
            call()
    torch.cuda.synchronize()
    # Graphs that share their memory may overwrite each other's results, which nobody reads; each
    # writes all that it reads itself.
    pool = torch.cuda.graph_pool_handle()
    runs = {
        name: _one_by_one(own) if name in eager else _captured(own, pool)
        for name, own in calls.items()
    }
    _warm(runs.values())
    events: dict[Name, list[tuple[Any, Any]]] = {name: [] for name in calls}
    names, orders = list(calls), balanced_orders(len(calls))
    for _ in range(-(-least_rounds // len(orders))):
        for order in orders:
            for place in order:
                events[names[place]].append(_turn(runs[names[place]]))
    torch.cuda.synchronize()
    return {
        name: statistics.median(
            start.elapsed_time(end) / 1e3 / _TIMED_RUNS / len(calls[name]) for start, end in pairs
        )
        for name, pairs in events.items()
    }


def balanced_orders(count: int) -> list[list[int]]:
    """Orders of 0 .. count - 1: each stands equally often at each place, and after each other one.

    What ran before decides what is in the caches, and how warm and how fast the GPU is. With the
    same order in every round, or one that only rotates, a name would nearly always follow the same
    other: one after the dense products, which heat most, one after a loop that leaves the GPU
    idle. So a zigzag is shifted, whose steps all differ; for an odd count it is also taken
    backwards (Williams, "Experimental designs balanced for the estimation of residual effects of
    treatments", 1949).
    """
    zigzag = [count - 1 - i // 2 if i % 2 else i // 2 for i in range(count)]
    orders = [[(i + shift) % count for i in zigzag] for shift in range(count)]
    return orders + [order[::-1] for order in orders] if count % 2 else orders


def host_seconds(call: Call) -> float:
    """Median seconds of the host for one eager call: so few in turn that no launch has to wait."""
    call()
    rounds = timeit.repeat(call, setup=torch.cuda.synchronize, repeat=20, number=_HOST_CALLS)
    return statistics.median(rounds) / _HOST_CALLS


def _captured(calls: Sequence[Call], pool: Any) -> Call:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        for call in calls:
            call()
    return graph.replay  # which keeps the graph


def _one_by_one(calls: Sequence[Call]) -> Call:
    def run() -> None:
        for call in calls:
            call()

    return run


def _warm(runs: Collection[Call]) -> None:
    deadline = time.perf_counter() + _WARM_SECONDS
    while time.perf_counter() < deadline:
        for run in runs:
            run()
        torch.cuda.synchronize()


def _turn(run: Call) -> tuple[Any, Any]:
    """Events before and after the timed runs; the GPU may reach them later."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    run()
    start.record()
    for _ in range(_TIMED_RUNS):
        run()
    end.record()
    return start, end
