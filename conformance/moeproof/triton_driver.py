"""A Triton driver for a GPU that is not there: kernels are compiled for it, tensors stay here.

Triton asks its driver what it compiles for and how a compiled kernel is launched. This one answers
for an architecture of the user's choice, so that ordinary code compiles for it: the same
specialisation, tile choice and cache as on the GPU, with tensors on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

from moeproof.architectures import Architecture

Launcher = Callable[..., None]
"""(grid x, y, z, stream, function, packed metadata, launch metadata, enter hook, exit hook,
\\*kernel arguments with the compile-time ones) -> None"""


class AbsentGpuDriver:
    """As much of a Triton driver as compiling and launching take.

    Args:
        architecture: what is compiled for.
        load: (kernel's name, binary) -> what the launcher is given as ``function``.
        launcher: (source, metadata) -> the launcher of a compiled kernel.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        load: Callable[[str, bytes], Any],
        launcher: Callable[[Any, Any], Launcher],
    ) -> None:
        self._architecture = architecture
        self.utils = _Utilities(architecture, load)
        self.launcher_cls = launcher

    def get_current_target(self) -> GPUTarget:
        """What Triton compiles for."""
        name = self._architecture.name
        arch = int(name.removeprefix("sm_")) if self._architecture.backend == "cuda" else name
        return GPUTarget(self._architecture.backend, arch, self._architecture.warp_size)

    def get_current_device(self) -> int:
        """The only device's number."""
        return 0

    def set_current_device(self, device: int) -> None:
        """There is no other device."""

    def get_current_stream(self, device: int) -> int:
        """The only stream: launches run at once."""
        return 0

    def get_active_torch_device(self) -> torch.device:
        """Where tensors are."""
        return torch.device("cpu")

    def get_benchmarker(self) -> Callable[..., Sequence[float]]:
        """An autotuner's stopwatch: each candidate runs once, and all take the same time."""
        return _run_once


class _Utilities:
    """What Triton's compiled kernels ask of a driver."""

    def __init__(self, architecture: Architecture, load: Callable[[str, bytes], Any]) -> None:
        self._architecture = architecture
        self._load = load

    def load_binary(
        self, name: str, binary: bytes, shared: int, device: int
    ) -> tuple[int, Any, int, int, int]:
        """Module, function, registers, spills (not known here), most threads of a program."""
        return 0, self._load(name, binary), 0, 0, 1024

    def unload_module(self, module: int) -> None:
        """Nothing was loaded anywhere."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        """The architecture's figures under Triton's names."""
        architecture = self._architecture
        return {
            "max_shared_mem": architecture.shared_limit,
            "max_num_regs": architecture.partitions * architecture.registers * 32,
            "multiprocessor_count": architecture.units,
            "warpSize": architecture.warp_size,
            "max_threads_per_sm": (
                architecture.partitions * architecture.warps_per_partition * architecture.warp_size
            ),
        }


def install(driver: AbsentGpuDriver) -> None:
    """Make Triton of this process use the driver, before any kernel is launched."""
    triton.runtime.driver.set_active(driver)


def _run_once(
    kernel_call: Callable[[], object], *, quantiles: Sequence[float] = (0.5,), **_: object
) -> Sequence[float]:
    kernel_call()
    return [1.0] * len(quantiles)
