"""Compiles an implementation for several targets, each in processes of its own.

A process compiles for one target only, since Triton's driver is one per process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from moeproof.targets.isolated_compiler import CompiledTarget, IsolatedCompiler
from moeproof.targets.messages import CompileRequest

_SECONDS_BETWEEN_LINES = 10.0


def compile_targets(
    implementation: str,
    *,
    targets: Sequence[str],
    dtypes: Sequence[str],
    workers: int,
    timeout_seconds: float,
    tell: Callable[[str], object],
) -> Iterator[CompiledTarget]:
    """What was compiled for each target, as it is done.

    Args:
        implementation: a reference, as :func:`moeproof.implementation.load_implementation` takes.
        targets: names of :data:`moeproof.architectures.ARCHITECTURES`.
        dtypes: of the activations; what the implementation does not claim is left out.
        workers: targets at a time.
        timeout_seconds: the longest that one call may take, what it compiles included.
        tell: given a line that names the calls under way, after each ten seconds in which no target
            is done.

    Raises:
        ImplementationError: the implementation cannot be loaded.
    """
    compilers = [
        IsolatedCompiler(CompileRequest(implementation, target, tuple(dtypes), timeout_seconds))
        for target in targets
    ]
    with ThreadPoolExecutor(workers) as threads:
        try:
            pending = {threads.submit(compiler.compile) for compiler in compilers}
            while pending:
                done, pending = wait(pending, _SECONDS_BETWEEN_LINES, FIRST_COMPLETED)
                for job in done:
                    yield job.result()
                if not done:
                    tell("; ".join(filter(None, (compiler.progress() for compiler in compilers))))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            for compiler in compilers:
                compiler.kill()
            raise
