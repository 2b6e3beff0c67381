"""Several hunts at a time, each in a process of its own, as hypothesis works on one case at a time.

The processes that run the implementation are theirs; none of its crashes ends a hunt.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, TypeAlias

from moeproof.devices import DeviceError
from moeproof.fuzz.hunt import Event, Hunt, HuntPlan, Started
from moeproof.fuzz.tally import Failure, Tally
from moeproof.implementation import ImplementationError
from moeproof.report.metadata import RunMetadata
from moeproof.worker_places import WorkerPlaces, cores_of_a_worker

if TYPE_CHECKING:
    # Generic for the type checker alone.
    Pipe: TypeAlias = Connection[Any, Any]

# The processes hold no state of ours, and torch is not to be forked.
_PROCESSES = multiprocessing.get_context("spawn")
_LAST_BREATH_SECONDS = 5.0
_SEEDS_APART = 2**40


@dataclass(frozen=True)
class FuzzResult:
    """What came of it.

    Attributes:
        metadata: what the run was made with.
        tally: of all hunts.
        failures: in the order in which they were shrunk.
    """

    metadata: RunMetadata
    tally: Tally
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class _News:
    """What a hunt says: an event, or the error that ended it, or neither as it ends; its tally."""

    event: Event | ImplementationError | DeviceError | None
    tally: Tally


def fuzz(
    plan: HuntPlan,
    *,
    places: WorkerPlaces,
    watch: Callable[[Event, Tally], None] = lambda event, tally: None,
) -> FuzzResult:
    """Hunt until the time is over or the profile's number of failures is reached.

    Args:
        plan: of the first hunt; the others have seeds and breadcrumbs of their own, and leave the
            kept cases to it.
        places: as many hunts at a time, and the GPUs that they share out.
        watch: is told of every event, with the tally of all hunts at that time.

    Raises:
        ImplementationError: the implementation cannot be loaded.
        DeviceError: the device is missing.
    """
    metadata: RunMetadata | None = None
    tallies = [Tally() for _ in range(places.workers)]
    failures: list[Failure] = []
    with ExitStack() as stack:
        indices = range(places.workers)
        lanes = {stack.enter_context(_lane(plan, places, index)): index for index in indices}
        while lanes and len(failures) < plan.profile.most_failures:
            for pipe in wait(list(lanes)):
                assert isinstance(pipe, Connection)
                news = _receive(pipe)
                tallies[lanes[pipe]] = news.tally
                if news.event is None:
                    del lanes[pipe]
                    continue
                if isinstance(news.event, Exception):
                    raise news.event
                if isinstance(news.event, Started):
                    metadata = metadata or news.event.metadata
                if isinstance(news.event, Failure):
                    failures.append(news.event)
                watch(news.event, sum(tallies, start=Tally()))
    assert metadata is not None
    return FuzzResult(metadata, sum(tallies, start=Tally()), tuple(failures))


def _receive(pipe: Pipe) -> _News:
    try:
        news: _News = pipe.recv()
    except EOFError as error:
        raise RuntimeError("a process of the fuzzer itself was killed") from error
    return news


@contextmanager
def _lane(plan: HuntPlan, places: WorkerPlaces, index: int) -> Iterator[Pipe]:
    """A hunt in a process, ended on leaving; its breadcrumb stays if that is by an error."""
    breadcrumb = plan.breadcrumb and plan.breadcrumb.with_suffix(
        f".{index}{plan.breadcrumb.suffix}"
    )
    own = replace(
        plan,
        subject=replace(plan.subject, cores=cores_of_a_worker(places.workers)),
        seed=plan.seed + index * _SEEDS_APART,
        kept=() if index else plan.kept,
        breadcrumb=breadcrumb,
    )
    ours, theirs = _PROCESSES.Pipe(duplex=False)
    with ours:
        with theirs:
            process = _PROCESSES.Process(target=_hunt, args=(own, places, theirs))
            process.start()
        try:
            yield ours
        finally:
            process.terminate()
            process.join(_LAST_BREATH_SECONDS)
            process.kill()
            process.join()
        if breadcrumb is not None:
            breadcrumb.unlink(missing_ok=True)


def _hunt(plan: HuntPlan, places: WorkerPlaces, pipe: Pipe) -> None:
    """Run in the process: hunt and tell. An orderly end kills the worker, too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tally = Tally()
    try:
        try:
            with places.place() as lease:
                hunt = Hunt(plan, lambda event: pipe.send(_News(event, deepcopy(tally))), lease)
                tally = hunt.tally
                hunt.run()
        except (ImplementationError, DeviceError) as error:
            pipe.send(_News(error, tally))
        pipe.send(_News(None, tally))
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # the one who watches is gone, or wants no more
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
