"""Poisoned allocations: every uninitialised tensor holds NaN or ones, between guard zones."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from moeproof.case import UnwrittenMemory
from moeproof.layout import GUARD_ELEMENTS
from moeproof.owned_memory import declare_owned

_UNINITIALISED = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten.new_empty_strided.default,
}
_GUARD_BYTE = 0xA5


class PoisonedAllocations(TorchDispatchMode):
    """While active, tensors from ``torch.empty`` and its kin hold what ``unwritten`` says and lie
    between guard zones; :meth:`overrun` tells whether a guard was written.

    ``nan``: NaN, and integers of 0xA5 bytes, which no index, count or id may be. ``ones``: 1, which
    looks like a value, an index, a count or an id, and is found by those who step over NaN and
    over ids out of range.

    Only allocations that go through torch's dispatcher are seen, which is where kernels in Triton
    and most extensions get their memory.
    """

    def __init__(self, unwritten: UnwrittenMemory = UnwrittenMemory.NAN) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._unwritten = unwritten
        self._guards: list[tuple[tuple[int, ...], torch.Tensor, torch.Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in _UNINITIALISED or not isinstance(result, torch.Tensor):
            return result
        if result.is_meta or result.layout is not torch.strided or result.dtype.is_complex:
            return result
        return self._guarded(result)

    def overrun(self) -> str | None:
        """The shape of an allocation whose guard zone was written, in words, or None."""
        for shape, before, after in self._guards:
            for side, guard in (("before", before), ("after", after)):
                if not bool((guard == _GUARD_BYTE).all()):
                    return f"memory {side} an allocated tensor of shape {shape} was written"
        return None

    def _guarded(self, plain: torch.Tensor) -> torch.Tensor:
        """A tensor of the same shape and strides inside a buffer with guards on both sides."""
        size = plain.untyped_storage().nbytes()
        if not size:
            return plain
        zone = GUARD_ELEMENTS * 8
        buffer = torch.full(
            (zone + size + zone,), _GUARD_BYTE, dtype=torch.uint8, device=plain.device
        )
        declare_owned(buffer, zone, zone + size)
        inside = buffer[zone : zone + size].view(plain.dtype)
        tensor = inside.as_strided(plain.shape, plain.stride())
        if self._unwritten is UnwrittenMemory.ONES:
            tensor.fill_(1)
        elif plain.dtype.is_floating_point:
            tensor.fill_(float("nan"))
        elif plain.dtype is torch.bool:
            tensor.fill_(True)
        self._guards.append((tuple(plain.shape), buffer[:zone], buffer[zone + size :]))
        return tensor
