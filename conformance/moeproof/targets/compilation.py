"""Compiles an implementation for several targets, each in a process of its own.

A process compiles for one target only, since Triton's driver is one per process; a compiler that
crashes costs that target's remaining calls and is reported as a failed call.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moeproof.implementation import ImplementationError
from moeproof.targets.facts import FailedCall, KernelFacts, Versions

NOT_LOADED = 3
"""The exit code of a process that could not load the implementation."""


@dataclass(frozen=True)
class CompiledTarget:
    """What was compiled for one target.

    Attributes:
        target: the architecture's name.
        implementation_version: as the implementation says it. triton: version that compiled.
        kernels: each configuration.
        failed_calls: calls that raised.
    """

    target: str
    implementation_version: str
    triton: str
    kernels: tuple[KernelFacts, ...]
    failed_calls: tuple[FailedCall, ...]


def compile_targets(
    implementation: str, *, targets: Sequence[str], dtypes: Collection[str], workers: int
) -> Iterator[CompiledTarget]:
    """What was compiled for each target, as it is done.

    Args:
        implementation: a reference, as :func:`moeproof.implementation.load_implementation` takes.
        targets: names of :data:`moeproof.architectures.ARCHITECTURES`.
        dtypes: of the activations; what the implementation does not claim is left out.
        workers: targets at a time.

    Raises:
        ImplementationError: the implementation cannot be loaded.
    """
    with ThreadPoolExecutor(workers) as threads:
        jobs = [
            threads.submit(_compile_apart, implementation, target, dtypes) for target in targets
        ]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _compile_apart(implementation: str, target: str, dtypes: Collection[str]) -> CompiledTarget:
    with tempfile.TemporaryDirectory(prefix="moeproof-") as folder:
        path = Path(folder) / "results"
        path.touch()
        # The interpreter would compile nothing.
        environ = {name: os.environ[name] for name in os.environ if name != "TRITON_INTERPRET"}
        process = subprocess.run(
            [
                *(sys.executable, "-m", "moeproof.targets.process"),
                *(implementation, target, ",".join(dtypes), str(path)),
            ],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )
        results = list(_read(path))
    last_words = process.stdout.strip()[-2000:]
    if process.returncode == NOT_LOADED:
        raise ImplementationError(last_words)
    if process.returncode:
        message = f"the process ended with code {process.returncode}: {last_words}"
        results.append(FailedCall(target, "", message))
    versions = next((found for found in results if isinstance(found, Versions)), Versions())
    return CompiledTarget(
        target=target,
        implementation_version=versions.implementation,
        triton=versions.triton,
        kernels=tuple(found for found in results if isinstance(found, KernelFacts)),
        failed_calls=tuple(found for found in results if isinstance(found, FailedCall)),
    )


def _read(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except (EOFError, pickle.UnpicklingError):  # the end, or a process that died writing
                return
