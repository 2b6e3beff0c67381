"""Where each worker of a run works: on a GPU of its own, unless sharing was asked for.

Up to one worker a GPU, each has its GPU alone. More workers than GPUs share them, spread evenly.
A GPU is held by a file's lock, which the kernel takes back once every process that inherited it is
gone, however it died: workers of other runs of the same user, and those that pytest-xdist starts
in place of crashed ones, find what is free and nothing else. No two users share these files.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from moeproof.devices import Device, DeviceError
from moeproof.gpus import Gpu, fitness_warnings, visible_gpus

Workers: TypeAlias = int | Literal["auto"]
"""How many: a number, or one a GPU (one a core where there is no GPU)."""

_POLL_SECONDS = 0.1


def cores_of_a_worker(workers: int) -> int:
    """An even share of the processor cores that this process may use, at least one."""
    return max(len(os.sched_getaffinity(0)) // workers, 1)


@dataclass(frozen=True)
class GpuLease:
    """A GPU that is this process's, and that of whoever inherits the locked files.

    Attributes:
        gpu: the GPU.
        environment: what a process needs to see this GPU alone.
        files: descriptors of the locked files.
    """

    gpu: Gpu
    environment: Mapping[str, str]
    files: tuple[int, ...]


@dataclass(frozen=True)
class WorkerPlaces:
    """How many workers a run has, and the GPUs they work on: none for a run on the CPU."""

    workers: int
    gpus: tuple[Gpu, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def on(cls, device: str, workers: Workers) -> WorkerPlaces:
        """Places for so many workers.

        Raises:
            DeviceError: the device is missing, or a GPU is not fit for a run.
            ValueError: ``workers`` is less than 1.
        """
        if workers != "auto" and workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        if not Device(device).is_gpu:
            cores = len(os.sched_getaffinity(0))
            return cls(cores if workers == "auto" else workers)
        gpus = visible_gpus(device)
        warnings = fitness_warnings(gpus)
        return cls(len(gpus) if workers == "auto" else workers, gpus, warnings)

    @contextmanager
    def place(self, *, patience_seconds: float = 10.0) -> Iterator[GpuLease | None]:
        """A place for one worker, until the context ends and its processes are gone.

        Raises:
            DeviceError: no GPU has become free in time.
        """
        if not self.gpus:
            yield None
            return
        lease = self._lease(patience_seconds)
        try:
            yield lease
        finally:
            for file in lease.files:
                os.close(file)

    def _lease(self, patience_seconds: float) -> GpuLease:
        folder = _lock_folder()
        attempt = _share if self.workers > len(self.gpus) else _have_alone
        deadline = time.monotonic() + patience_seconds
        while True:
            held = attempt(self.gpus, folder)
            if held is not None:
                gpu, files = held
                # A lone GPU is visible as it is.
                environment = dict([gpu.visible_by]) if len(self.gpus) > 1 else {}
                return GpuLease(gpu, environment, files)
            if time.monotonic() >= deadline:
                raise DeviceError(self._none_free(folder))
            time.sleep(_POLL_SECONDS)

    def _none_free(self, folder: Path) -> str:
        holders = [
            f"{gpu} leased by process {_lock_path(folder, gpu).read_text() or '?'}"
            for gpu in self.gpus
        ]
        return (
            f"no GPU is free for a worker: {'; '.join(holders)}; wait for the other run, or leave "
            f"its GPUs out by {self.gpus[0].visible_by[0]}"
        )


_Held = tuple[Gpu, tuple[int, ...]]


def _have_alone(gpus: Sequence[Gpu], folder: Path) -> _Held | None:
    for gpu in gpus:
        file = _locked(_lock_path(folder, gpu), fcntl.LOCK_EX)
        if file is not None:
            return gpu, (file,)
    return None


def _share(gpus: Sequence[Gpu], folder: Path) -> _Held | None:
    """Hold one of the GPUs with the fewest workers: the lowest seat that is free on any of them."""
    shared = {gpu: _locked(_lock_path(folder, gpu), fcntl.LOCK_SH) for gpu in gpus}
    open_gpus = {gpu: file for gpu, file in shared.items() if file is not None}
    if not open_gpus:
        return None
    for seat in itertools.count():
        for gpu, file in open_gpus.items():
            seat_file = _locked(_lock_path(folder, gpu, f"-seat{seat}"), fcntl.LOCK_EX)
            if seat_file is not None:
                for other in open_gpus.values():
                    if other != file:
                        os.close(other)
                return gpu, (file, seat_file)
    raise AssertionError("not reached")


def _locked(path: Path, kind: int) -> int | None:
    """The locked file's descriptor; None if another process's lock forbids this one."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    os.ftruncate(file, 0)
    os.pwrite(file, str(os.getpid()).encode(), 0)
    return file


def _lock_path(folder: Path, gpu: Gpu, seat: str = "") -> Path:
    return folder / f"gpu-{re.sub('[^A-Za-z0-9.-]', '_', gpu.identity)}{seat}.lock"


def _lock_folder() -> Path:
    """This user's, on this machine. Locks on network file systems would be another matter."""
    folder = Path(tempfile.gettempdir(), f"moeproof-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise DeviceError(f"{folder}: not a folder of this user's; set TMPDIR to another place")
    return folder
