"""The fused MoE kernel of this distribution."""

from __future__ import annotations

from importlib.metadata import version

import moe_dispatch
from moeproof.case import Layout
from moeproof.implementation import Capabilities, Implementation
from moeproof.rounding_profile import RoundingProfile

# SiLU(gate) * up is stored, and so is each expert's output, which is weighed in float32.
_ROUNDING = RoundingProfile(
    gate_up="no", silu="no", intermediate="yes", expert_output="yes", weights_applied="after"
)

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
        subnormals=True,
        router_rules=frozenset({"softmax", "sigmoid", "raw", "bias", "groups", "scale"}),
        lowest_id_ties=True,
        rounding=dict.fromkeys(("bf16", "fp16"), _ROUNDING),
    ),
    version=version("moeproof"),
)
