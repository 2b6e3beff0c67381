"""Wrong roundings, for faults to use."""

from __future__ import annotations

import torch

_SIGNED = {2: torch.int16, 4: torch.int32}


def significant_bits(values: torch.Tensor, bits: int) -> torch.Tensor:
    """float32 values cut (not rounded) to so many significant bits."""
    mask = -1 << (24 - bits)
    return (values.view(torch.int32) & mask).view(torch.float32)


def truncated(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """float32 values rounded towards zero to ``dtype``."""
    nearest = values.to(dtype)
    too_large = nearest.double().abs() > values.double().abs()
    return _step(nearest, -too_large.int())


def ties_away(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """float32 values rounded to the nearest in ``dtype``, ties away from zero."""
    nearest = values.to(dtype)
    away = _step(nearest, torch.ones_like(values, dtype=torch.int32))
    tie = (nearest.double() + away.double()) / 2 == values.double()
    return torch.where(tie, away, nearest)


def _step(values: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """The numbers so many steps farther from zero."""
    signed = _SIGNED[values.element_size()]
    return (values.view(signed) + steps.to(signed)).view(values.dtype)
