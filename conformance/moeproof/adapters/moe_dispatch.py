"""The fused MoE kernel of this distribution."""

from __future__ import annotations

from importlib.metadata import version

import moe_dispatch
from moeproof.case import Layout
from moeproof.implementation import Capabilities, Implementation

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
    ),
    version=version("moeproof"),
)
