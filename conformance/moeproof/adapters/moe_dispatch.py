"""The fused MoE kernel of this distribution."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.metadata import version

import torch

import moe_dispatch
from moeproof.case import Layout
from moeproof.implementation import Capabilities, Implementation
from moeproof.rounding_profile import RoundingProfile

# SiLU(gate) * up is stored, and so is each expert's output, which is weighed in float32.
_ROUNDING = RoundingProfile(
    gate_up="no", silu="no", intermediate="yes", expert_output="yes", weights_applied="after"
)


def _keeps_subnormals() -> bool:
    """Not on gfx90a: its matrix unit takes 16-bit ones for zero (PyTorch, "Numerical accuracy")."""
    try:
        return moe_dispatch.target.architecture(torch.device("cpu")) != "gfx90a"
    except RuntimeError:  # no GPU, so that nothing runs
        return True


implementation = Implementation(
    name="moe_dispatch",
    fused_experts=moe_dispatch.fused_experts,
    route=moe_dispatch.route,
    capabilities=Capabilities(
        layouts=frozenset(Layout),
        masked_ids=True,
        validates=True,
        deterministic=True,
        position_invariant=True,
        expert_invariant=True,
        graph_capture=True,
        subnormals=_keeps_subnormals(),
        router_rules=frozenset({"softmax", "sigmoid", "raw", "bias", "groups", "scale"}),
        lowest_id_ties=True,
        rounding=dict.fromkeys(("bf16", "fp16"), _ROUNDING),
    ),
    version=version("moeproof"),
    fused_moe=moe_dispatch.fused_moe,
)

batch_invariant = replace(
    implementation,
    name="moe_dispatch_batch_invariant",
    fused_experts=partial(moe_dispatch.fused_experts, batch_invariant=True),
    fused_moe=partial(moe_dispatch.fused_moe, batch_invariant=True),
    capabilities=replace(implementation.capabilities, batch_invariant=True),
)
