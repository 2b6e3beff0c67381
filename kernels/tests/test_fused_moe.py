"""Router and experts together, as a function and as a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from moe_dispatch import FusedMoE, fused_experts, fused_moe, route

OPTIONS: list[dict[str, Any]] = [
    {},
    {"renormalize": False},
    {"scoring": "sigmoid", "num_groups": 4, "topk_groups": 2, "scaling_factor": 2.5},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_the_router_and_then_the_experts(
    make_experts: Callable[..., Any], dtype: torch.dtype, options: dict[str, Any]
) -> None:
    """Small integers, of which the logits are exact sums."""
    experts = make_experts(13, 32, 24, 8, 3, dtype)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-4, 5, (13, 32), generator=generator).to(experts.hidden_states)
    router_weight = torch.randint(-4, 5, (8, 32), generator=generator).to(x) / 32
    weights = (experts.gate_up_proj, experts.down_proj)
    ids, scores = route((x.double() @ router_weight.double().T).float(), 3, **options)
    expected = fused_experts(x, *weights, ids, scores)
    actual = fused_moe(x, router_weight, *weights, 3, **options)
    assert torch.equal(actual, expected)


def test_no_tokens(make_experts: Callable[..., Any]) -> None:
    experts = make_experts(0, 32, 24, 8, 3)
    router_weight = torch.zeros(8, 32, device=experts.hidden_states.device)
    weights = (experts.gate_up_proj, experts.down_proj)
    assert fused_moe(experts.hidden_states, router_weight, *weights, 3).shape == (0, 32)


def test_batch_invariant(make_experts: Callable[..., Any]) -> None:
    experts = make_experts(40, 32, 24, 8, 3)
    router_weight = torch.randn(8, 32, generator=torch.manual_seed(1)).to(experts.hidden_states)
    weights = (router_weight, experts.gate_up_proj, experts.down_proj, 3)
    together = fused_moe(experts.hidden_states, *weights, batch_invariant=True)
    alone = fused_moe(experts.hidden_states[7:8], *weights, batch_invariant=True)
    assert torch.equal(alone, together[7:8])


def layer(device: torch.device, **options: Any) -> FusedMoE:
    torch.manual_seed(0)
    sizes = {"num_experts": 8, "hidden_size": 32, "intermediate_size": 24, "top_k": 3}
    return FusedMoE(**sizes, device=device, **options)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("has_correction_bias", [False, True])
def test_module(device: torch.device, options: dict[str, Any], has_correction_bias: bool) -> None:
    module = layer(device, has_correction_bias=has_correction_bias, **options)
    if module.correction_bias is not None:
        module.correction_bias.copy_(torch.linspace(-1, 1, 8))
    x = torch.randn(2, 5, 32, device=device)
    expected = fused_moe(
        x.view(10, 32),
        module.router_weight,
        module.gate_up_proj,
        module.down_proj,
        3,
        correction_bias=module.correction_bias,
        **options,
    )
    actual = module(x)
    assert actual.shape == (2, 5, 32)
    assert torch.equal(actual.view(10, 32), expected)
    assert module(x.transpose(0, 1)).shape == (5, 2, 32)
    assert module(x[0, 0]).shape == (32,)


def test_module_keeps_its_state(device: torch.device) -> None:
    module = layer(device, has_correction_bias=True, dtype=torch.bfloat16)
    other = layer(device, has_correction_bias=True, dtype=torch.bfloat16)
    other.reset_parameters()
    assert list(module.state_dict()) == [
        "router_weight",
        "gate_up_proj",
        "down_proj",
        "correction_bias",
    ]
    assert not any(parameter.requires_grad for parameter in module.parameters())
    other.load_state_dict(module.state_dict())
    x = torch.randn(4, 32, device=device).bfloat16()
    assert torch.equal(module(x), other(x))
    assert "num_experts=8, hidden_size=32, intermediate_size=24, top_k=3" in repr(module)
