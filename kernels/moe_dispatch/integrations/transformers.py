"""The experts of Hugging Face models (transformers >= 5).

    from moe_dispatch.integrations.transformers import register

    register()
    model.set_experts_implementation("moe_dispatch")

The model keeps its own router; its experts modules call `fused_experts`.
"""

from __future__ import annotations

import torch
from torch import nn

from ..api import fused_experts

NAME = "moe_dispatch"


def register(name: str = NAME) -> None:
    """Makes `name` an experts implementation that models can be set to."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(name, experts_forward)


def experts_forward(
    module: nn.Module,
    hidden_states: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
) -> torch.Tensor:
    """Forward pass of an experts module.

    module: `gate_up_proj` (E, 2I, H) and `down_proj` (E, H, I). hidden_states: (T, H).
    top_k_index: (T, K); an id of E marks a token that expert parallelism sends elsewhere.
    top_k_weights: (T, K). Raises NotImplementedError for experts of another form.
    """
    _check_form(module)
    gate_up_proj = module.get_parameter("gate_up_proj")
    down_proj = module.get_parameter("down_proj")
    return fused_experts(hidden_states, gate_up_proj, down_proj, top_k_index, top_k_weights)


def _check_form(module: nn.Module) -> None:
    """The experts are gated SiLU in the layout of `fused_experts`, without biases or norms."""
    from transformers.activations import ACT2FN

    silu = type(ACT2FN["silu"])
    # A class without its own `_apply_gate` is given transformers': activation(gate) * up.
    gating = getattr(type(module), "_apply_gate", None)
    forms = (
        (not getattr(module, "is_transposed", False), "is_transposed=True: weights as (E, H, 2I)"),
        (
            getattr(module, "is_concatenated", True),
            "is_concatenated=False: interleaved gate and up",
        ),
        (not getattr(module, "has_bias", False), "has_bias=True"),
        (getattr(module, "has_gate", True), "has_gate=False: experts without a gate"),
        (not getattr(module, "has_post_expert_norm", False), "has_post_expert_norm=True"),
        (
            isinstance(getattr(module, "act_fn", None), (silu, nn.SiLU)),
            f"act_fn={getattr(module, 'act_fn', None)}: only SiLU",
        ),
        (
            gating is None or gating.__module__ == "transformers.integrations.moe",
            "a gate of its own (_apply_gate)",
        ),
    )
    for supported, form in forms:
        if not supported:
            raise NotImplementedError(
                f"moe_dispatch does not support the experts of {type(module).__name__}: {form}; "
                'use another implementation, such as set_experts_implementation("grouped_mm")'
            )
