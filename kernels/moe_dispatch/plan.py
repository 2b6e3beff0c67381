"""What a call does is worked out once for arguments that are alike, and looked up from then on.

Checks, tiles, grids and compiled kernels follow from the arguments' shapes, strides, dtypes and
alignment, the device and the options. To find them takes longer than to launch the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from .target import active_driver, on_device_of
from .tensor_spec import ALIGNMENT

PLANS_KEPT = 4096
"""Of one function, for calls that come again: one a shape, batch size and set of strides."""

_Result = TypeVar("_Result")


def planned(make_plan: Callable[..., Callable[..., _Result]]) -> Callable[..., _Result]:
    """`make_plan(*tensors, *options)(*tensors)`, planned once for all arguments that are alike.

    make_plan: checks its arguments and returns a plan: a function of the tensors alone, which
        holds on to none of those it was made from. Only tensors may differ between the calls of a
        plan, and of a tensor only its address, its values and whether it requires the gradient
        that is not asked for. Plans run on their first tensor's device.

    Returns:
        Function of the tensors, a tuple in which None may stand for one, and the options.
    """
    plans: dict[tuple[Any, ...], Callable[..., _Result]] = {}

    def call(tensors: tuple[Any, ...], *options: Any) -> _Result:
        key: tuple[Any, ...] | None
        try:
            key = _likeness(tensors, options)
            plan = plans.get(key)
        except (AttributeError, RuntimeError, TypeError):
            # Something has no strides, no address or no hash: `make_plan` says what it is.
            key = plan = None
        if plan is None:
            plan = make_plan(*tensors, *options)
            if len(plans) >= PLANS_KEPT:
                plans.clear()
            if key is not None:
                plans[key] = plan
        with on_device_of(tensors[0]):
            return plan(*tensors)

    return call


def _likeness(tensors: tuple[Any, ...], options: tuple[Any, ...]) -> tuple[Any, ...]:
    """Equal for arguments that have one plan."""
    gradients = torch.is_grad_enabled()
    return (
        active_driver(),
        options,
        # Equal options may differ in type, and then in whether they are allowed: 1 and True.
        *map(type, options),
        *[
            tensor
            if tensor is None
            else (
                tensor.shape,
                tensor.stride(),
                tensor.dtype,
                tensor.device,
                gradients and tensor.requires_grad,
                tensor.data_ptr() % ALIGNMENT == 0,
            )
            for tensor in tensors
        ],
    )
