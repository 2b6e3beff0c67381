"""A fused Mixture-of-Experts forward pass in Triton, for NVIDIA and AMD GPUs.

`fused_experts` runs the experts for a given routing, `route` finds the routing from the router's
logits, `fused_moe` does both, and `FusedMoE` is the same as a module.
"""

from .api import fused_experts, fused_moe, route
from .layer import FusedMoE

__all__ = ["FusedMoE", "fused_experts", "fused_moe", "route"]
