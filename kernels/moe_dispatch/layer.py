"""The Mixture-of-Experts layer as a module."""

from __future__ import annotations

import torch
from torch import nn

from .api import fused_moe


class FusedMoE(nn.Module):
    """Router and experts with their weights, for inference; see `fused_moe`.

    Parameters, none of which requires a gradient:
        router_weight: (E, H).
        gate_up_proj: (E, 2I, H), the gate's rows first.
        down_proj: (E, H, I).
        correction_bias: (E,) float32, or None.

    Args:
        num_experts: E.
        hidden_size: H.
        intermediate_size: I.
        top_k: K.
        has_correction_bias: whether there is a `correction_bias`; it starts at zero.
        scoring, renormalize, num_groups, topk_groups, scaling_factor: as for `route`.
        allow_tf32, batch_invariant: as for `fused_experts`.
        device, dtype: of the parameters, torch's defaults if None.
    """

    def __init__(
        self,
        *,
        num_experts: int,
        hidden_size: int,
        intermediate_size: int,
        top_k: int,
        has_correction_bias: bool = False,
        scoring: str = "softmax",
        renormalize: bool = True,
        num_groups: int = 1,
        topk_groups: int | None = None,
        scaling_factor: float = 1.0,
        allow_tf32: bool = False,
        batch_invariant: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.top_k = top_k
        self.scoring = scoring
        self.renormalize = renormalize
        self.num_groups = num_groups
        self.topk_groups = topk_groups
        self.scaling_factor = scaling_factor
        self.allow_tf32 = allow_tf32
        self.batch_invariant = batch_invariant

        def parameter(*shape: int) -> nn.Parameter:
            weight = torch.empty(shape, device=device, dtype=dtype)
            return nn.Parameter(weight, requires_grad=False)

        self.router_weight = parameter(num_experts, hidden_size)
        self.gate_up_proj = parameter(num_experts, 2 * intermediate_size, hidden_size)
        self.down_proj = parameter(num_experts, hidden_size, intermediate_size)
        bias = torch.empty(num_experts, device=device, dtype=torch.float32)
        self.correction_bias = (
            nn.Parameter(bias, requires_grad=False) if has_correction_bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in +-1 / sqrt(inputs), as `nn.Linear` without a bias."""
        for weight in (self.router_weight, self.gate_up_proj, self.down_proj):
            bound = weight.shape[-1] ** -0.5
            nn.init.uniform_(weight, -bound, bound)
        if self.correction_bias is not None:
            nn.init.zeros_(self.correction_bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., H) to (..., H): every vector of the last dimension is a token."""
        tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
        output = fused_moe(
            tokens,
            self.router_weight,
            self.gate_up_proj,
            self.down_proj,
            self.top_k,
            scoring=self.scoring,
            renormalize=self.renormalize,
            correction_bias=self.correction_bias,
            num_groups=self.num_groups,
            topk_groups=self.topk_groups,
            scaling_factor=self.scaling_factor,
            allow_tf32=self.allow_tf32,
            batch_invariant=self.batch_invariant,
        )
        return output.view(hidden_states.shape)

    def extra_repr(self) -> str:
        num_experts, hidden_size, intermediate_size = self.down_proj.shape
        return (
            f"num_experts={num_experts}, hidden_size={hidden_size}, "
            f"intermediate_size={intermediate_size}, top_k={self.top_k}, scoring={self.scoring!r}"
        )
