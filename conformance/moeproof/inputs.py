"""From a case to its tensors' values: numpy arrays on the CPU, the same bits on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof import exact_values
from moeproof.case import Case, ValueFamily
from moeproof.random_source import RandomSource, round_to_storage
from moeproof.routing_pattern import Routing, find_pattern


@dataclass(frozen=True)
class ExpertInputs:
    """What ``fused_experts`` is given, as arrays in the case's storage dtype.

    Attributes:
        hidden_states: (T, H).
        gate_up_proj: (E, 2I, H), gate rows first.
        down_proj: (E, H, I).
        topk_ids: (T, K) int32; an id outside [0, E) contributes nothing.
        topk_weights: (T, K) float32.
    """

    hidden_states: NDArray[Any]
    gate_up_proj: NDArray[Any]
    down_proj: NDArray[Any]
    topk_ids: NDArray[np.int32]
    topk_weights: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The five arrays by argument name, in the order of the call."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class _Scales:
    """Factors on unit-variance values: of x, and of gate, up and down projections."""

    hidden: float
    gate: float
    up: float
    down: float


_GAIN = 2.0  # gates of standard deviation 2 reach both the linear and the flat part of SiLU
_ORDINARY = _Scales(1.0, _GAIN, _GAIN, 1.0)
_WIDE_EXPONENT = {  # bf16 and fp32: eight exponent bits
    ValueFamily.HUGE: _Scales(2.0**30, 2.0**-26, 2.0**20, 2.0**-50),
    ValueFamily.TINY: _Scales(2.0**-30, _GAIN, _GAIN, 1.0),
    ValueFamily.SUBNORMAL: _Scales(2.0**-127, 2.0**124, 2.0**124, 1.0),
}
_NARROW_EXPONENT = {  # fp16: 2**-14 is the smallest normal number, 65504 the largest
    ValueFamily.HUGE: _Scales(2.0**4, 1.5, 1.5, 2.0**-4),
    ValueFamily.TINY: _Scales(2.0**-4, _GAIN, 2.0**-2, 1.0),
    ValueFamily.SUBNORMAL: _Scales(2.0**-15, 2.0**12, 2.0**12, 1.0),
}


def make_inputs(case: Case) -> ExpertInputs:
    """The case's arrays.

    Value families: ``random`` has outputs of order one and sign-symmetric independent values;
    ``per_expert`` gives every expert its own magnitude; ``cancelling`` pairs columns whose
    products nearly cancel; ``huge`` and ``tiny`` use the far ends of the normal range;
    ``subnormal`` has subnormal activations; ``silu_sweep`` shows SiLU of single gates; the
    ``exact`` families are those of :mod:`moeproof.exact_values`.
    """
    routing = make_routing(case)
    if case.values.is_exact:
        values = exact_values.make(case, routing)
    elif case.values is ValueFamily.SILU_SWEEP:
        values = exact_values.make_silu_sweep(case, routing)
    else:
        values = _make_random(case, routing)
    store = case.problem.format.numpy_dtype
    return ExpertInputs(
        hidden_states=round_to_storage(values.hidden_states, store),
        gate_up_proj=round_to_storage(values.gate_up_proj, store),
        down_proj=round_to_storage(values.down_proj, store),
        topk_ids=routing.topk_ids,
        topk_weights=values.topk_weights.astype(np.float32),
    )


def make_routing(case: Case) -> Routing:
    """The case's ids, and the weights that its pattern gives them."""
    pattern, argument = find_pattern(case.pattern)
    return pattern.route(case.problem, RandomSource(case.case_id, "routing"), argument)


def _make_random(case: Case, routing: Routing) -> exact_values.Values:
    problem = case.problem
    tokens, hidden = problem.num_tokens, problem.hidden_size
    intermediate, experts = problem.intermediate_size, problem.num_experts
    narrow = problem.format.min_exponent > -126
    scales = (_NARROW_EXPONENT if narrow else _WIDE_EXPONENT).get(case.values, _ORDINARY)

    def draw(name: str, *shape: int) -> NDArray[np.float64]:
        values = RandomSource(case.case_id, name).symmetric(shape)
        # The only term of a sum must not vanish: tokens of tiny outputs would hide errors.
        return values + np.copysign(0.5, values) if shape[-1] == 1 else values

    hidden_states = draw("hidden_states", tokens, hidden) * scales.hidden
    gate_up = draw("gate_up_proj", experts, 2 * intermediate, hidden) / np.sqrt(float(hidden))
    gate_up[:, :intermediate] *= scales.gate
    gate_up[:, intermediate:] *= scales.up
    down = draw("down_proj", experts, hidden, intermediate) / np.sqrt(float(intermediate))
    down *= scales.down
    if case.values is ValueFamily.PER_EXPERT:
        down *= 2.0 ** ((np.arange(experts) * 5) % 7 - 3)[:, None, None]
    if case.values is ValueFamily.CANCELLING:
        even = hidden // 2 * 2
        hidden_states[:, 1:even:2] = hidden_states[:, 0:even:2]
        residue = gate_up[:, :, 1:even:2] * 2.0**-4
        gate_up[:, :, 1:even:2] = residue - gate_up[:, :, 0:even:2]
    weights = routing.topk_weights.astype(np.float64)
    return exact_values.Values(hidden_states, gate_up, down, weights)
