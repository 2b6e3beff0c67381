"""Time on the GPU: graph replays between events, and the host's share of an eager call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

Call = Callable[[], object]
_REPLAYS = 30
_WARM_SECONDS = 0.03


def graph_seconds(calls: Sequence[Call], *, replays: int = _REPLAYS) -> float:
    """Median seconds of one call, all of ``calls`` captured in one graph and replayed.

    Several calls on different data keep caches from holding what a real caller would have to
    fetch.
    """
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    seconds = _median_event_seconds(graph.replay, replays) / len(calls)
    del graph
    return seconds


def eager_seconds(calls: Sequence[Call]) -> float:
    """Median seconds of one eager call, measured on the GPU."""

    def all_calls() -> None:
        for call in calls:
            call()

    return _median_event_seconds(all_calls, _REPLAYS) / len(calls)


def host_seconds(call: Call, repeats: int = 200) -> float:
    """Median seconds of the host for one eager call: the loop never waits for the GPU."""
    call()
    rounds = []
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        rounds.append((time.perf_counter() - started) / repeats)
        torch.cuda.synchronize()
    return statistics.median(rounds)


def _median_event_seconds(run: Call, repeats: int) -> float:
    run()
    torch.cuda.synchronize()
    deadline = time.perf_counter() + _WARM_SECONDS
    while time.perf_counter() < deadline:
        run()
        torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)
