"""Launching a kernel again without what Triton works out anew at every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

import torch
from triton import knobs
from triton.runtime import driver
from triton.tools.tensor_descriptor import TensorDescriptor

from .numerics import COMPILE_OPTIONS

_ALIGNMENT = 16
"""Bytes. Triton compiles another kernel for a tensor that starts elsewhere."""

LAUNCHES_KEPT = 4096
"""Of one kernel, for calls that come again: one a shape, batch size and set of strides."""


class Launch:
    """A kernel with all its arguments fixed but the tensors.

    `kernel[grid](...)` binds the arguments, specialises each and looks up what it compiled for
    them: tens of microseconds of host time. None of it can change while the dtypes, the device and
    the numbers stay, and the tensors start at multiples of 16 bytes: from the second call on, the
    compiled kernel is launched directly. Whoever makes a launch keeps it for those dtypes and that
    device alone.

    Args:
        kernel: its parameters are tensors, then numbers, then compile-time constants.
        grid: number of programs.
        numbers: the run-time arguments after the tensors.
        constants: the compile-time ones, by name, in the order of the parameters.
        blocks: place of a tensor among the tensors -> shape of the blocks that the kernel loads
            from it by descriptor, its leading dimensions taken as one.
        options: Triton's compile options, such as `num_warps`; its defaults for those left out.
    """

    __slots__ = (
        "_blocks",
        "_compiled",
        "_constants",
        "_device",
        "_driver",
        "_kernel",
        "_numbers",
        "_options",
        "_programs",
        "_rest",
        "_run",
    )

    def __init__(
        self,
        kernel: Any,
        grid: int,
        numbers: Sequence[int | float],
        constants: Mapping[str, Any],
        *,
        blocks: Mapping[int, list[int]] | None = None,
        **options: int,
    ) -> None:
        self._kernel = kernel
        self._programs = grid
        self._numbers = tuple(numbers)
        self._constants = dict(constants)
        self._rest = (*self._numbers, *self._constants.values())
        self._options = options
        self._blocks = blocks or {}
        self._compiled: Any = None
        self._driver: Any = None
        self._device: Any = None
        self._run: Any = None

    def __call__(self, *tensors: torch.Tensor) -> None:
        """Launch on the device's current stream; the tensors' device must be the current one."""
        addresses = [tensor.data_ptr() for tensor in tensors]
        aligned = reduce(or_, addresses) % _ALIGNMENT == 0
        compiled = self._compiled
        if compiled is None or self._driver is not driver.active or not aligned or _hooked():
            self._launch_by_triton(tensors, keep=aligned)
            return
        self._run(
            self._programs,
            1,
            1,
            self._driver.get_current_stream(self._device),
            compiled.function,
            compiled.packed_metadata,
            None,
            None,
            None,
            # A launcher asks the driver where a tensor lies; an address it takes as it is.
            *self._arguments(tensors, addresses if tensors[0].is_cuda else tensors),
            *self._rest,
        )

    def _launch_by_triton(self, tensors: Sequence[torch.Tensor], *, keep: bool) -> None:
        compiled = self._kernel[(self._programs, 1, 1)](
            *self._arguments(tensors, tensors),
            *self._numbers,
            **self._constants,
            **self._options,
            **COMPILE_OPTIONS,
        )
        if keep and compiled is not None:
            self._compiled, self._run = compiled, compiled.run
            self._driver, self._device = driver.active, driver.active.get_current_device()

    def _arguments(self, tensors: Sequence[torch.Tensor], values: Sequence[Any]) -> Sequence[Any]:
        """`values`, and descriptors in place of those that are loaded in blocks."""
        if not self._blocks:
            return values
        return [
            _descriptor(tensor, self._blocks[place]) if place in self._blocks else value
            for place, (tensor, value) in enumerate(zip(tensors, values, strict=True))
        ]


def _hooked() -> bool:
    """Whether a profiler wants to hear of launches."""
    before, after = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    return bool(getattr(before, "calls", before) or getattr(after, "calls", after))


def takes_descriptor(tensor: torch.Tensor) -> bool:
    """Whether a kernel can load from `tensor` by descriptor.

    Its leading dimensions must be evenly spaced, its rows contiguous and 16-byte aligned (CUDA
    Driver API, cuTensorMapEncodeTiled).
    """
    *leading, step, last = tensor.stride()
    row_bytes = step * tensor.element_size()
    even = all(stride == step * tensor.shape[-2] or tensor.shape[0] == 1 for stride in leading)
    return (
        last == 1
        and even
        and step >= tensor.shape[-1]
        and row_bytes % _ALIGNMENT == 0
        and tensor.data_ptr() % _ALIGNMENT == 0
    )


def _descriptor(tensor: torch.Tensor, block: list[int]) -> TensorDescriptor:
    width = tensor.shape[-1]
    rows = tensor.numel() // width
    return TensorDescriptor(tensor, [rows, width], [tensor.stride(-2), 1], block)
