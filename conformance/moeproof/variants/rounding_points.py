"""Variants of where values are rounded to storage, and of how SiLU is evaluated."""

from __future__ import annotations

from dataclasses import replace

import torch

from moeproof.rounding_profile import RoundingProfile
from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import Call, Schedule, Tensor
from moeproof.variants.variant import expert_variant


def rounded(call: Call, values: Tensor) -> Tensor:
    """float32 values that storage can hold."""
    return values.to(call.dtype).float()


def split_rounded(call: Call, gate_up: Tensor) -> tuple[Tensor, Tensor]:
    """Gate and up, rounded."""
    return right.split(call, rounded(call, gate_up))


def silu_rounded(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    """SiLU rounded before it is multiplied with up."""
    return rounded(call, right.activate(call, gate, torch.ones_like(gate))) * up


def silu_by_exp2(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    """SiLU by exp2 of a rounded argument and a reciprocal that is off by one unit, except at 1."""
    exponential = torch.exp2((gate * -1.4426950408889634).double()).float()
    sigmoid = 1 / (1 + exponential)
    return gate * torch.where(sigmoid == 1, sigmoid, sigmoid * (1 + 2.0**-23)) * up


def silu_last(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    """(gate * up) * sigmoid(gate)."""
    return gate * up * torch.sigmoid(gate.double()).float()


def intermediate_kept(call: Call, values: Tensor) -> Tensor:
    """The intermediate values in float32."""
    return values


def weigh_rounded(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    """The experts' outputs rounded, then weighed."""
    return right.weigh(call, slots, rounded(call, outputs))


def weigh_then_round(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    """The experts' outputs weighed, then rounded."""
    return rounded(call, right.weigh(call, slots, outputs))


def round_weigh_round(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    """The experts' outputs rounded, weighed, and rounded again."""
    return rounded(call, weigh_rounded(call, slots, outputs))


def weigh_by_storage(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    """Routing weights rounded to storage; nothing else is, up to the output."""
    weights = rounded(call, call.topk_weights)
    return right.weigh(replace(call, topk_weights=weights), slots, outputs)


def activate_weighed(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    """The intermediate values times the routing weight, before they are rounded."""
    slots = right.schedule(call)
    return right.weigh(call, slots, right.activate(call, gate, up))


def weighed_already(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    """Outputs of weighed intermediate values."""
    return outputs


expert_variant(
    "rounds_gate_up", "gate and up are rounded", engines="GEMM and activation as two kernels",
    split=split_rounded,
    rounding=RoundingProfile("yes", "no", "yes", "no"),
)  # fmt: skip
expert_variant(
    "rounds_silu", "SiLU is rounded before the product with up", engines="torch's silu",
    activate=silu_rounded,
    rounding=RoundingProfile("no", "yes", "yes", "no"),
)  # fmt: skip
expert_variant(
    "rounds_everything", "gate, up, SiLU, the intermediate value and the expert's output",
    engines="plain torch in 16 bits",
    split=split_rounded, activate=silu_rounded, weigh=weigh_rounded,
    rounding=RoundingProfile("yes", "yes", "yes", "yes", "after"),
)  # fmt: skip
expert_variant(
    "rounds_nothing", "float32 up to the output", engines="fully fused kernels",
    store_intermediate=intermediate_kept,
    rounding=RoundingProfile("no", "no", "no", "no"),
)  # fmt: skip
expert_variant(
    "rounds_then_weighs", "experts' outputs are rounded, then weighed",
    engines="a separate combine kernel", weigh=weigh_rounded,
    rounding=RoundingProfile("no", "no", "yes", "yes", "after"),
)  # fmt: skip
expert_variant(
    "weighs_then_rounds", "experts' outputs are weighed, then rounded",
    engines="weights in the down kernel's epilogue", weigh=weigh_then_round,
    rounding=RoundingProfile("no", "no", "yes", "yes", "before"),
)  # fmt: skip
expert_variant(
    "rounds_weighs_rounds", "experts' outputs are rounded before and after they are weighed",
    engines="torch, with the weights in 16 bits", weigh=round_weigh_round,
    rounding=RoundingProfile("no", "no", "yes", "yes", "between"),
)  # fmt: skip
expert_variant(
    "weighs_intermediate", "the intermediate values are weighed, then rounded",
    engines="weights in the gate-up kernel's epilogue",
    activate=activate_weighed, weigh=weighed_already,
    rounding=RoundingProfile("no", "no", "yes", "no", "intermediate"),
)  # fmt: skip
expert_variant(
    "silu_by_exp2", "SiLU by exp2 and an approximate reciprocal", engines="GPU fast math",
    activate=silu_by_exp2,
)  # fmt: skip
expert_variant(
    "silu_last", "(gate * up) * sigmoid(gate)", engines="compilers that reorder",
    activate=silu_last,
)  # fmt: skip
