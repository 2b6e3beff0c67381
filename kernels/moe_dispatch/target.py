"""Every question about where a kernel runs: its architecture, and what that can do."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

INTERPRETED: tl.constexpr = tl.constexpr(bool(triton.knobs.runtime.interpret))
"""True if `TRITON_INTERPRET=1` was set when this package was imported: kernels then run on the CPU.

`@triton.jit` makes the same decision at the same moment, so the two cannot disagree later.
"""


def device_function(function: Callable[..., Any]) -> Any:
    """`@triton.jit` for a function that kernels call.

    Under the interpreter it stays an ordinary function, which it is there anyway: each call of a
    jitted one patches all of `triton.language` again, and that costs more than most bodies.
    """
    return function if INTERPRETED else triton.jit(function)


INTERPRETER = "interpreter"
"""The architecture name under Triton's interpreter."""

_INTERPRETER_PROGRAMS = 4
"""They run one after the other; few, so that each has several tiles and passes some over."""

_INTERPRETER_FEW = 8
"""Not half of those: small layers with a few tiles and with many are both to be had."""

_TF32_ARCHITECTURES = frozenset({INTERPRETER, "sm_80", "sm_86", "sm_90", "sm_100", "gfx942"})
_NVIDIA = {80: "sm_80", 90: "sm_90", 100: "sm_100", 103: "sm_100"}
_NVIDIA_SMALL_SHARED_MEMORY = "sm_86"
_AMD = ("gfx90a", "gfx942", "gfx950")
_RDNA3 = "gfx1100"
_RDNA4 = "gfx1201"


def device_type() -> str:
    """The `torch.device` type whose tensors kernels accept: "cpu" under the interpreter.

    Raises RuntimeError if Triton finds no GPU.
    """
    if INTERPRETED:
        return "cpu"
    return str(triton.runtime.driver.active.get_active_torch_device().type)


def active_driver() -> Any:
    """What Triton launches with; None under the interpreter. Another one means other devices."""
    return None if INTERPRETED else triton.runtime.driver.active


def architecture(device: torch.device) -> str:
    """The key of `tile_config`'s table for `device`: an architecture with tuned tiles.

    An architecture without an entry gets that of its nearest relative with no more shared memory.
    """
    if INTERPRETED:
        return INTERPRETER
    return _architecture(active_driver(), device.index)


@cache
def _architecture(driver: Any, device_index: int | None) -> str:
    # The driver answers for the current device: callers hold `on_device_of`. `device_index` only
    # separates the cache entries of a machine with different GPUs.
    target = driver.get_current_target()
    if target.backend == "cuda":
        return _NVIDIA.get(int(target.arch), _NVIDIA_SMALL_SHARED_MEMORY)
    name = str(target.arch).split(":")[0]
    if name in _AMD:
        return name
    return _RDNA4 if name.startswith("gfx12") else _RDNA3


def multiprocessors(device: torch.device) -> int:
    """How many multiprocessors (compute units) `device` has: programs that surely run at once."""
    if INTERPRETED:
        return _INTERPRETER_PROGRAMS
    return _multiprocessors(active_driver(), device.index)


@cache
def _multiprocessors(driver: Any, device_index: int | None) -> int:
    properties = driver.utils.get_device_properties(driver.get_current_device())
    return int(properties["multiprocessor_count"])


def few_programs(arch: str, multiprocessors: int) -> int:
    """Up to how many programs with a tile leave so many multiprocessors idle that more pay.

    arch: a result of `architecture`.
    """
    return _INTERPRETER_FEW if arch == INTERPRETER else multiprocessors // 2


def supports_tf32(arch: str) -> bool:
    """Whether an fp32 dot on `arch` can use tf32 (gfx942 calls it xf32); others compute in fp32."""
    return arch in _TF32_ARCHITECTURES


class _NoGuard:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


_NO_GUARD = _NoGuard()


def on_device_of(tensor: torch.Tensor) -> Any:
    """Context manager that makes `tensor`'s GPU the current one: Triton launches on that."""
    if not tensor.is_cuda or tensor.device.index == torch.cuda.current_device():
        return _NO_GUARD
    return torch.cuda.device(tensor.device)
