"""Implementations of ``fused_experts`` in emulated arithmetic: legal ones and wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erf

import numpy as np

from moeproof.inputs import ExpertInputs
from moeproof.oracle import RoundingProfile

from .simulated_products import Array, Product, flushed, to_float32, truncated

Store = Callable[[Array], Array]


@dataclass(frozen=True)
class SimulatedExperts:
    """One way to compute the experts in float32 with roundings to the storage format.

    Attributes:
        product: the matrix product.
        gate_up, silu, intermediate, expert_output: the points that are rounded.
        weights_after: the routing weight is applied after the expert's output is rounded.
        weights_between: it is applied between two roundings of the expert's output.
        fast_exponential: an exponential, and a reciprocal, as inaccurate as the bound allows.
        sigmoid_last: (gate * up) * sigmoid(gate) instead of (gate * sigmoid(gate)) * up.
        weight_on_intermediate: the routing weight multiplies the intermediate value.
        combine_in_storage: sums over slots are rounded to storage after every addition.
        weights_in_storage: routing weights are rounded to storage first.
        flushes: subnormal operands and outputs become zero.
        last_slot_first: the slots are added in reversed order.
        fault: what is wrong, "" for nothing.
    """

    product: Product
    gate_up: bool = False
    silu: bool = False
    intermediate: bool = False
    expert_output: bool = False
    weights_after: bool = False
    fast_exponential: bool = False
    sigmoid_last: bool = False
    weight_on_intermediate: bool = False
    combine_in_storage: bool = False
    weights_in_storage: bool = False
    flushes: bool = False
    last_slot_first: bool = False
    weights_between: bool = False
    fault: str = ""

    @classmethod
    def declared(cls, profile: RoundingProfile, product: Product) -> SimulatedExperts:
        """An implementation that rounds as a profile without "maybe" says."""
        return cls(
            product,
            profile.gate_up == "yes",
            profile.silu == "yes",
            profile.intermediate == "yes",
            profile.expert_output == "yes",
            weights_after=profile.weights_applied == "after",
            weight_on_intermediate=profile.weights_applied == "intermediate",
            combine_in_storage=profile.combine_in_output_dtype,
            weights_in_storage=profile.weights_in_storage_dtype,
            weights_between=profile.weights_applied == "between",
        )

    def profile(self, **others: bool) -> RoundingProfile:
        """What this implementation would declare."""
        return RoundingProfile(
            gate_up="yes" if self.gate_up else "no",
            silu="yes" if self.silu else "no",
            intermediate="yes" if self.intermediate else "no",
            expert_output="yes" if self.expert_output else "no",
            weights_applied="after" if self.weights_after else "before",
            combine_in_output_dtype=self.combine_in_storage,
            weights_in_storage_dtype=self.weights_in_storage,
            flushes_subnormals=self.flushes,
            **others,
        )

    def __call__(self, inputs: ExpertInputs, random: np.random.Generator) -> np.ndarray:
        with np.errstate(all="ignore"):
            return self._output(inputs, random)

    def _output(self, inputs: ExpertInputs, random: np.random.Generator) -> np.ndarray:
        dtype = inputs.hidden_states.dtype

        def store(values: Array) -> Array:
            return values.astype(np.float32).astype(dtype).astype(np.float64)

        ids, weights = inputs.topk_ids, inputs.topk_weights.astype(np.float64)
        valid = (ids >= 0) & (ids < len(inputs.gate_up_proj))
        if self.fault == "one expert dropped":
            valid &= ids != ids[valid][0]
        token, slot = np.nonzero(valid)
        expert, weight = ids[token, slot], weights[token, slot][:, None]
        if self.weights_in_storage:
            weight = store(weight)
        rows = self._operand(inputs.hidden_states[token], dtype)
        gate_up = self._product(rows, self._operand(inputs.gate_up_proj[expert], dtype), store)
        gate, up = np.split(gate_up, 2, axis=1)
        if self.fault == "gate and up swapped":
            gate, up = up, gate
        if self.gate_up:
            gate, up = store(gate), store(up)
        hidden = self._intermediate(gate, up, store, random)
        if self.weight_on_intermediate:
            hidden = to_float32(hidden * weight)
        if self.fault == "intermediate truncated":
            hidden = truncated(hidden, {"bfloat16": 8, "float16": 11}[dtype.name])
        elif self.intermediate:
            hidden = store(hidden)
        hidden = self._operand(hidden, dtype)
        out = self._product(hidden, self._operand(inputs.down_proj[expert], dtype), store)
        out = self._weighted(out, weight, store)
        by_slot = np.zeros((*ids.shape, out.shape[1]))
        by_slot[token, slot] = out
        total = self._combined(by_slot, store).astype(np.float32).astype(dtype)
        if self.fault == "rows swapped":
            total[[0, 1]] = total[[1, 0]]
        return total * 0 if self.fault == "zeros" else total

    def _operand(self, values: Array, dtype: np.dtype) -> Array:
        values = values.astype(np.float64)
        smallest = 2.0**-14 if dtype == np.float16 else 2.0**-126
        return flushed(values, smallest) if self.flushes else values

    def _product(self, rows: Array, weights: Array, store: Store) -> Array:
        if self.fault.startswith("tail missing"):
            left_out = int(self.fault.split()[-1])
            rows, weights = rows[:, :-left_out], weights[:, :, :-left_out]
        if self.fault.startswith("16-bit sums"):
            block = int(self.fault.split()[-1])
            total = np.zeros(weights.shape[:2])
            for start in range(0, rows.shape[1], block):
                part = slice(start, start + block)
                total = store(to_float32(total + self.product(rows[:, part], weights[:, :, part])))
            return total
        return self.product(rows, weights)

    def _intermediate(
        self, gate: Array, up: Array, store: Store, random: np.random.Generator
    ) -> Array:
        if self.fault == "GELU":
            sigmoid = (1 + np.vectorize(erf)(gate / np.sqrt(2))) / 2
        else:
            exponential = np.exp(-gate)
            if self.fast_exponential:
                off = random.choice([-1, 1], gate.shape) * (2 + 1.173 * np.abs(gate)) * 2.0**-23
                exponential = exponential * (1 + off)
            sigmoid = to_float32(1 / to_float32(1 + to_float32(exponential)))
            if self.fast_exponential:
                sigmoid = to_float32(sigmoid * (1 + random.choice([-1, 1], gate.shape) * 2.0**-23))
        if self.fault == "16-bit sigmoid":
            sigmoid = store(sigmoid)
        if self.sigmoid_last:
            return to_float32(to_float32(gate * up) * sigmoid)
        silu = to_float32(gate * sigmoid)
        return to_float32((store(silu) if self.silu else silu) * up)

    def _weighted(self, out: Array, weight: Array, store: Store) -> Array:
        if self.fault == "weight ignored":
            return out
        if self.weight_on_intermediate:
            return store(out) if self.expert_output else out
        if self.expert_output and (self.weights_after or self.weights_between):
            out = store(out)
        out = to_float32(out * weight)
        if self.fault == "weight twice":
            out = to_float32(out * weight)
        return store(out) if self.expert_output and not self.weights_after else out

    def _combined(self, by_slot: Array, store: Store) -> Array:
        total = np.zeros_like(by_slot[:, 0])
        slots = range(by_slot.shape[1])
        for slot in reversed(slots) if self.last_slot_first else slots:
            total = to_float32(total + by_slot[:, slot])
            if self.combine_in_storage:
                total = store(total)
        return flushed(total) if self.flushes else total
