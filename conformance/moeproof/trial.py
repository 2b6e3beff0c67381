"""One case on one implementation: its inputs, its oracle, and the ways a check may call it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moeproof.case import Case, Layout
from moeproof.devices import Device, synchronize
from moeproof.implementation import Implementation
from moeproof.inputs import ExpertInputs, make_inputs
from moeproof.layout import PlacedTensor, place, to_array
from moeproof.oracle import (
    UNDECLARED,
    ExpertIntervals,
    Interval,
    ProfileInference,
    RoundingProfile,
    candidate_profiles,
    expert_interval,
)
from moeproof.router_case import RouterCase
from moeproof.router_inputs import RouterInputs, make_router_inputs


class ContractError(Exception):
    """The implementation returned something that is not a right answer's shape, dtype or device."""


@dataclass(frozen=True)
class PlacedInputs:
    """The tensors that ``fused_experts`` or ``route`` is given, placed in memory."""

    tensors: dict[str, PlacedTensor]

    def arguments(self) -> list[torch.Tensor]:
        """The views to call with, in the order of the signature."""
        return [placed.tensor for placed in self.tensors.values()]


class Trial:
    """A case of the experts, ready to be judged; what is costly is computed once, if asked for."""

    def __init__(self, case: Case, implementation: Implementation, device: Device) -> None:
        self.case = case
        self.implementation = implementation
        self.device = device

    @cached_property
    def inputs(self) -> ExpertInputs:
        """The case's arrays."""
        return make_inputs(self.case)

    @cached_property
    def interval(self) -> Interval:
        """Where each element of a right output may lie."""
        return self.interval_of(self.inputs)

    @cached_property
    def output(self) -> NDArray[Any]:
        """The implementation's output (T, H) on the case, in storage dtype, on the CPU."""
        return self.call(self.inputs)

    @cached_property
    def inference(self) -> ProfileInference:
        """Judges the output by the rounding profiles that the implementation may have."""
        return ProfileInference(
            ExpertIntervals(self.inputs, dtype=self.case.problem.dtype, independent_signs=True),
            [self._flushing(candidate) for candidate in self.candidates],
        )

    @property
    def declared(self) -> RoundingProfile | None:
        """The rounding profile that the implementation declares in the case's dtype."""
        return self.implementation.capabilities.rounding.get(self.case.problem.dtype)

    @property
    def candidates(self) -> tuple[RoundingProfile, ...]:
        """The rounding profiles that the implementation may have."""
        return candidate_profiles() if self.declared is None else (self.declared,)

    @property
    def profile(self) -> RoundingProfile:
        """What the interval allows for."""
        if self.case.values.rounds_once:
            return self._flushing(RoundingProfile("no", "no", "no", "no"))
        return self._flushing(self.declared or UNDECLARED)

    def _flushing(self, profile: RoundingProfile) -> RoundingProfile:
        flushes = not self.implementation.capabilities.subnormals
        return replace(profile, flushes_subnormals=profile.flushes_subnormals or flushes)

    def interval_of(self, inputs: ExpertInputs) -> Interval:
        """The interval for other inputs of the same case."""
        return expert_interval(
            inputs,
            dtype=self.case.problem.dtype,
            independent_signs=self.case.values.has_independent_signs,
            profile=self.profile,
        )

    def place(self, inputs: ExpertInputs) -> PlacedInputs:
        """The inputs on the device, in the case's layout."""
        chosen = self.case.layout
        target = self.device.torch_device
        placed = {}
        for name, array in inputs.arrays().items():
            small = chosen is Layout.FAR_APART and name.startswith("topk")
            here = Layout.CONTIGUOUS if small else chosen
            placed[name] = place(array, layout=here, device=target)
        return PlacedInputs(placed)

    def call(self, inputs: ExpertInputs) -> NDArray[Any]:
        """Call the implementation on inputs and return its output (T, H) on the CPU.

        Raises:
            ContractError: the result is not a (T, H) tensor of the input's dtype and device.
        """
        return self.call_placed(self.place(inputs))

    def call_placed(self, placed: PlacedInputs) -> NDArray[Any]:
        """As :meth:`call`, on tensors already placed."""
        return to_array(self.call_on_device(placed))

    def call_on_device(self, placed: PlacedInputs) -> torch.Tensor:
        """As :meth:`call_placed`, leaving the output on the device."""
        arguments = placed.arguments()
        with torch.no_grad():
            output: torch.Tensor = self.implementation.fused_experts(*arguments)
        synchronize(self.device)
        hidden_states = arguments[0]
        require_tensor(
            "output",
            output,
            shape=tuple(hidden_states.shape),
            dtypes=(hidden_states.dtype,),
            device=hidden_states.device,
        )
        return output


class RouterTrial:
    """A router case, ready to be judged."""

    def __init__(self, case: RouterCase, implementation: Implementation, device: Device) -> None:
        self.case = case
        self.implementation = implementation
        self.device = device

    @cached_property
    def inputs(self) -> RouterInputs:
        """The case's logits and bias."""
        return make_router_inputs(self.case)

    def place(self, layout: Layout = Layout.CONTIGUOUS) -> PlacedInputs:
        """Logits and bias on the device, in a layout."""
        arrays = {
            "router_logits": self.inputs.router_logits,
            "correction_bias": self.inputs.correction_bias,
        }
        target = self.device.torch_device
        return PlacedInputs(
            {
                name: place(array, layout=layout, device=target)
                for name, array in arrays.items()
                if array is not None
            }
        )

    def call(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """``topk_ids`` (T, K) as int64 and ``topk_weights`` (T, K) as float64, on the CPU.

        Raises:
            ContractError: a result has the wrong type, shape, dtype or device.
        """
        return self.call_placed(self.place())

    def call_placed(self, placed: PlacedInputs) -> tuple[NDArray[Any], NDArray[Any]]:
        """As :meth:`call`, on tensors already placed."""
        problem = self.case.problem
        assert self.implementation.route is not None
        logits, *bias = placed.arguments()
        with torch.no_grad():
            result = self.implementation.route(
                logits,
                problem.top_k,
                correction_bias=bias[0] if bias else None,
                **problem.rule,
            )
        synchronize(self.device)
        if not isinstance(result, tuple) or len(result) != 2:
            raise ContractError(f"route returned {type(result).__name__}, expected a pair")
        ids, weights = result
        shape, device = (problem.num_tokens, problem.top_k), logits.device
        integers = (torch.int32, torch.int64)
        require_tensor("topk_ids", ids, shape=shape, dtypes=integers, device=device)
        require_tensor("topk_weights", weights, shape=shape, dtypes=(torch.float32,), device=device)
        return to_array(ids).astype(np.int64), to_array(weights).astype(np.float64)


def require_tensor(
    name: str,
    value: Any,
    *,
    shape: tuple[int, ...],
    dtypes: tuple[torch.dtype, ...],
    device: torch.device,
) -> None:
    """Raise ContractError unless ``value`` is a tensor of this shape, on this device and of one of
    these dtypes."""
    if not isinstance(value, torch.Tensor):
        raise ContractError(f"{name} is a {type(value).__name__}, not a tensor")
    if tuple(value.shape) != shape:
        raise ContractError(f"{name} has shape {tuple(value.shape)}, expected {shape}")
    if value.dtype not in dtypes:
        expected = " or ".join(str(dtype) for dtype in dtypes)
        raise ContractError(f"{name} has dtype {value.dtype}, expected {expected}")
    if value.device != device:
        raise ContractError(f"{name} is on {value.device}, expected {device}")
