"""Hugging Face models with moe_dispatch as their experts implementation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GptOssConfig,
    MixtralConfig,
    OlmoeConfig,
    Qwen3MoeConfig,
)
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from moe_dispatch.integrations.transformers import experts_forward, register

SIZES = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 2,
}

CONFIGS = [
    pytest.param(MixtralConfig(**SIZES, num_local_experts=5), id="mixtral"),
    pytest.param(Qwen3MoeConfig(**SIZES, num_experts=6, moe_intermediate_size=20), id="qwen3"),
    pytest.param(
        DeepseekV3Config(
            **SIZES | {"num_key_value_heads": 4},
            n_routed_experts=8,
            moe_intermediate_size=20,
            n_group=4,
            topk_group=2,
            first_k_dense_replace=1,
            q_lora_rank=16,
            kv_lora_rank=16,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=8,
        ),
        id="deepseek-v3",
    ),
    pytest.param(OlmoeConfig(**SIZES, num_experts=6, eos_token_id=1), id="olmoe"),
]


def model(config: Any, device: torch.device) -> Any:
    torch.manual_seed(0)
    register()
    return AutoModelForCausalLM.from_config(config).to(device).eval()


@pytest.mark.parametrize("config", CONFIGS)
def test_model_agrees_with_eager(config: Any, device: torch.device) -> None:
    network = model(config, device)
    tokens = torch.randint(0, 61, (2, 5), generator=torch.manual_seed(0)).to(device)
    with torch.no_grad():
        network.set_experts_implementation("eager")
        expected = network(tokens).logits
        network.set_experts_implementation("moe_dispatch")
        actual = network(tokens).logits
    assert not torch.equal(actual, torch.zeros_like(actual))
    # Two float32 networks that differ in the order of sums of at most 48 terms, over 2 layers.
    torch.testing.assert_close(actual, expected, rtol=0, atol=2**-16 * expected.abs().max().item())


@pytest.mark.parametrize("config", CONFIGS)
def test_model_compiles_as_one_graph(config: Any, device: torch.device) -> None:
    network = model(config, device)
    network.set_experts_implementation("moe_dispatch")
    tokens = torch.randint(0, 61, (2, 5), generator=torch.manual_seed(0)).to(device)
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        expected, actual = network(tokens).logits, compiled(tokens).logits
    # The compiler may choose other kernels for what is not ours, such as attention.
    torch.testing.assert_close(actual, expected, rtol=0, atol=2**-16 * expected.abs().max().item())


def mixtral_experts(device: torch.device) -> Any:
    torch.manual_seed(0)
    experts = MixtralExperts(MixtralConfig(**SIZES, num_local_experts=5)).to(device)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return experts.requires_grad_(False)


def test_sentinel_marks_a_dropped_token(device: torch.device) -> None:
    experts = mixtral_experts(device)
    x = torch.randn(3, 48, device=device)
    ids = torch.tensor([[0, 5], [5, 5], [4, 1]], device=device)
    weights = torch.full((3, 2), 0.5, device=device)
    output = experts_forward(experts, x, ids, weights)
    dropped = ids == 5
    without_weight = weights.masked_fill(dropped, 0.0)
    same = experts_forward(experts, x, ids.masked_fill(dropped, 0), without_weight)
    assert torch.equal(output, same)
    assert (output[1] == 0).all()


def test_gpt_oss_is_refused(device: torch.device) -> None:
    network = model(GptOssConfig(**SIZES, num_local_experts=5, head_dim=12), device)
    network.set_experts_implementation("moe_dispatch")
    with torch.no_grad(), pytest.raises(NotImplementedError, match=r"GptOssExperts.*is_transposed"):
        network(torch.zeros(1, 2, dtype=torch.int64, device=device))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("is_transposed", True),
        ("is_concatenated", False),
        ("has_bias", True),
        ("has_gate", False),
        ("has_post_expert_norm", True),
        ("act_fn", torch.nn.GELU()),
    ],
)
def test_other_forms_are_refused(device: torch.device, attribute: str, value: Any) -> None:
    experts = mixtral_experts(device)
    setattr(experts, attribute, value)
    ids = torch.zeros(1, 1, dtype=torch.int64, device=device)
    with pytest.raises(NotImplementedError, match=f"MixtralExperts: {attribute}"):
        experts_forward(experts, torch.zeros(1, 48, device=device), ids, ids.float())


def test_a_gate_of_its_own_is_refused(device: torch.device) -> None:
    class ClampedExperts(MixtralExperts):  # type: ignore[misc]
        def _apply_gate(self, gate_up: torch.Tensor) -> torch.Tensor:
            gate, up = gate_up.clamp(max=7).chunk(2, dim=-1)
            return self.act_fn(gate) * up

    experts = ClampedExperts(MixtralConfig(**SIZES, num_local_experts=5)).to(device)
    ids = torch.zeros(1, 1, dtype=torch.int64, device=device)
    with pytest.raises(NotImplementedError, match="ClampedExperts: a gate of its own"):
        experts_forward(experts, torch.zeros(1, 48, device=device), ids, ids.float())
