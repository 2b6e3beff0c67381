"""Launching a kernel again without what Triton works out anew at every call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from triton import knobs
from triton.runtime import driver
from triton.tools.tensor_descriptor import TensorDescriptor

from .numerics import COMPILE_OPTIONS
from .tensor_spec import ALIGNMENT, TensorSpec


class Launch:
    """A kernel with all its arguments fixed but the tensors.

    `kernel[grid](...)` binds the arguments, specialises each and looks up what it compiled for
    them: tens of microseconds of host time. None of it can change while the tensors' specs, the
    device and the numbers stay: from the second call on, the compiled kernel is launched directly.
    Whoever makes a launch keeps it for those specs, that device and its driver alone.

    Args:
        kernel: its parameters are tensors, then numbers, then compile-time constants.
        grid: number of programs.
        numbers: the run-time arguments after the tensors.
        constants: the compile-time ones, by name, in the order of the parameters.
        blocks: place of a tensor among the tensors -> the tensor, in the shape in which the kernel
            sees it, and the shape of the blocks that it loads from it by descriptor. Where these
            have fewer dimensions, the tensor's leading ones are taken as one.
        options: Triton's compile options, such as `num_warps`; its defaults for those left out.
    """

    __slots__ = (
        "_compiled",
        "_constants",
        "_descriptors",
        "_device",
        "_fixed",
        "_get_stream",
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
        blocks: Mapping[int, tuple[TensorSpec, list[int]]] | None = None,
        **options: int,
    ) -> None:
        self._kernel = kernel
        self._programs = grid
        self._numbers = tuple(numbers)
        self._constants = dict(constants)
        self._rest = (*self._numbers, *self._constants.values())
        self._options = options
        self._descriptors = [
            (place, *_shape_and_strides(spec, len(block)), block)
            for place, (spec, block) in (blocks or {}).items()
        ]
        self._compiled: Any = None
        self._run: Any = None
        self._fixed: tuple[Any, ...] = ()
        self._get_stream: Any = None
        self._device: Any = None

    def __call__(self, *tensors: torch.Tensor) -> None:
        """Launch on the device's current stream; the tensors' device must be the current one."""
        if self._compiled is None or _hooked():
            self._launch_by_triton(tensors)
            return
        # A launcher asks the driver where a tensor lies; an address it takes as it is.
        arguments: list[Any] = (
            [tensor.data_ptr() for tensor in tensors] if tensors[0].is_cuda else [*tensors]
        )
        for place, *form in self._descriptors:
            arguments[place] = _CheckedDescriptor(tensors[place], *form)
        self._run(
            self._programs,
            1,
            1,
            self._get_stream(self._device),
            *self._fixed,
            *arguments,
            *self._rest,
        )

    @property
    def kernel_name(self) -> str:
        return str(self._kernel.fn.__name__)

    def arguments(self, *tensors: torch.Tensor) -> dict[str, Any]:
        """What a launch on these tensors passes, by the names of the kernel's parameters."""
        names = inspect.signature(self._kernel.fn).parameters
        return dict(zip(names, (*tensors, *self._rest), strict=True))

    def _launch_by_triton(self, tensors: Sequence[torch.Tensor]) -> None:
        arguments: list[Any] = [*tensors]
        for place, *form in self._descriptors:
            arguments[place] = TensorDescriptor(tensors[place], *form)
        compiled = self._kernel[(self._programs, 1, 1)](
            *arguments,
            *self._numbers,
            **self._constants,
            **self._options,
            **COMPILE_OPTIONS,
        )
        if compiled is None:
            return
        self._run = compiled.run
        # No metadata and no hooks, which profilers would want.
        self._fixed = (compiled.function, compiled.packed_metadata, None, None, None)
        self._get_stream = driver.active.get_current_stream
        self._device = driver.active.get_current_device()
        self._compiled = compiled


class _CheckedDescriptor(TensorDescriptor):  # type: ignore[misc]
    """For a launch that Triton has made once, with its own descriptor's checks."""

    def __post_init__(self) -> None: ...


def _hooked() -> bool:
    """Whether a profiler wants to hear of launches."""
    before, after = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    return bool(getattr(before, "calls", before) or getattr(after, "calls", after))


def takes_descriptor(tensor: TensorSpec) -> bool:
    """Whether a kernel can load from `tensor` by descriptor.

    Its leading dimensions must be evenly spaced, its rows contiguous and 16-byte aligned (CUDA
    Driver API, cuTensorMapEncodeTiled).
    """
    *leading, step, last = tensor.strides
    row_bytes = step * tensor.dtype.itemsize
    even = all(stride == step * tensor.shape[-2] or tensor.shape[0] == 1 for stride in leading)
    return (
        last == 1
        and even
        and step >= tensor.shape[-1]
        and row_bytes % ALIGNMENT == 0
        and tensor.aligned
    )


def _shape_and_strides(tensor: TensorSpec, dimensions: int) -> tuple[list[int], list[int]]:
    """Those of `tensor` in so many dimensions, its leading ones taken as one."""
    kept = 1 - dimensions
    return [prod(tensor.shape[:kept]), *tensor.shape[kept:]], [*tensor.strides[-dimensions:]]
