"""A fused Mixture-of-Experts forward pass in Triton, for NVIDIA and AMD GPUs."""

from .api import fused_experts, route

__all__ = ["fused_experts", "route"]
