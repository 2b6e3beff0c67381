"""Whole models: Mixtral, Qwen3-MoE and DeepSeek-V3 with the kernel in place of their experts.

The yardstick is the same model with the oracle's experts, so all else is the same code. Two things
are demanded of prefill and of decoding with a key-value cache. Every call of the experts lies in
its interval. And the logits move no further than they do when every call's result is moved to one
end of its interval or the other, by random signs: a right implementation's errors are nowhere
larger than that, and their signs are as little in league.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moe_dispatch import fused_experts
from moe_dispatch.integrations import transformers as integration
from moeproof.inputs import ExpertInputs
from moeproof.layout import to_array, to_tensor
from moeproof.oracle import Interval, RoundingProfile, expert_interval

Experts = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Logits = NDArray[np.float64]

# As moe_dispatch documents it; and one that allows what transformers' own loop may do.
KERNEL = RoundingProfile(
    gate_up="no", silu="no", intermediate="yes", expert_output="yes", weights_applied="after"
)
EAGER = RoundingProfile(combine_in_output_dtype=True)

SIZES = {
    "vocab_size": 61,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32,
}
MODELS = {
    "mixtral": lambda: transformers.MixtralForCausalLM(
        transformers.MixtralConfig(
            **SIZES, intermediate_size=40, num_local_experts=4, num_experts_per_tok=2
        )
    ),
    "qwen3_moe": lambda: transformers.Qwen3MoeForCausalLM(
        transformers.Qwen3MoeConfig(
            **SIZES,
            head_dim=12,
            moe_intermediate_size=24,
            num_experts=9,
            num_experts_per_tok=3,
            norm_topk_prob=True,
        )
    ),
    "deepseek_v3": lambda: transformers.DeepseekV3ForCausalLM(
        transformers.DeepseekV3Config(
            **SIZES,
            intermediate_size=56,
            moe_intermediate_size=24,
            n_routed_experts=12,
            num_experts_per_tok=3,
            n_group=4,
            topk_group=2,
            n_shared_experts=1,
            first_k_dense_replace=1,
            q_lora_rank=24,
            kv_lora_rank=16,
            qk_nope_head_dim=8,
            qk_rope_head_dim=8,
            v_head_dim=8,
        )
    ),
}
PROMPT, DECODED = 7, 2


def build(name: str, dtype: torch.dtype) -> transformers.PreTrainedModel:
    """A random model whose experts' outputs are as large as what they are added to."""
    torch.manual_seed(0)
    model = MODELS[name]().to(dtype).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                scale = 3.0 if "gate_up_proj" in parameter_name else 1.5
                parameter.normal_(std=scale / parameter.shape[-1] ** 0.5)
    return model


def logits(model: transformers.PreTrainedModel, experts: str | Experts) -> dict[str, Logits]:
    """Logits of a prompt, and of tokens decoded after it one by one with a key-value cache."""
    name = experts if isinstance(experts, str) else "under_test"
    if not isinstance(experts, str):
        ALL_EXPERTS_FUNCTIONS.register(name, experts)
    model.set_experts_implementation(name)
    tokens = torch.arange(2 * (PROMPT + DECODED)).reshape(2, -1) * 7 % SIZES["vocab_size"]
    with torch.no_grad():
        result = model(tokens[:, :PROMPT], use_cache=True)
        prefill, decode = result.logits, []
        for position in range(PROMPT, PROMPT + DECODED):
            token = tokens[:, position : position + 1]
            result = model(token, past_key_values=result.past_key_values, use_cache=True)
            decode.append(result.logits)
    return {
        "prefill": prefill.double().numpy(),
        "decode": torch.cat(decode, dim=1).double().numpy(),
    }


def interval_of_call(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    *,
    profile: RoundingProfile,
) -> Interval:
    inputs = ExpertInputs(
        hidden_states=to_array(hidden_states),
        gate_up_proj=to_array(gate_up_proj),
        down_proj=to_array(down_proj),
        topk_ids=to_array(topk_ids.int()),
        topk_weights=to_array(topk_weights.float()),
    )
    dtype = {torch.float32: "fp32", torch.bfloat16: "bf16"}[hidden_states.dtype]
    # A layer's weights are drawn with random signs, and no input of the layer depends on them.
    return expert_interval(inputs, dtype=dtype, independent_signs=True, profile=profile)


def as_output(values: NDArray[np.float64], interval: Interval) -> torch.Tensor:
    assert not interval.overflow.any()
    return to_tensor(values.astype(interval.fmt.numpy_dtype))


def oracle_experts(module, hidden_states, topk_ids, topk_weights):
    weights = (module.gate_up_proj, module.down_proj)
    interval = interval_of_call(hidden_states, *weights, topk_ids, topk_weights, profile=KERNEL)
    return as_output(interval.emulated, interval)


def experts_at_the_ends(profile: RoundingProfile, seed: int) -> Experts:
    random = np.random.default_rng(seed)

    def experts(module, hidden_states, topk_ids, topk_weights):
        weights = (module.gate_up_proj, module.down_proj)
        interval = interval_of_call(
            hidden_states, *weights, topk_ids, topk_weights, profile=profile
        )
        up = random.integers(0, 2, interval.lower.shape, dtype=bool)
        return as_output(np.where(up, interval.upper, interval.lower), interval)

    return experts


class JudgedKernel:
    """``fused_experts`` as the integration calls it, with a verdict on every call."""

    def __init__(self, fused_experts: Callable[..., torch.Tensor]) -> None:
        self.fused_experts = fused_experts
        self.error_ratios: list[float] = []

    def __call__(self, *arguments: torch.Tensor) -> torch.Tensor:
        output = self.fused_experts(*arguments)
        interval = interval_of_call(*arguments, profile=KERNEL)
        self.error_ratios.append(float(interval.error_ratio(to_array(output)).max()))
        return output


def distance(actual: dict[str, Logits], expected: dict[str, Logits]) -> dict[str, float]:
    """Root mean square of the difference, for prefill and for decode."""
    return {
        phase: float(np.sqrt(np.mean((actual[phase] - expected[phase]) ** 2))) for phase in expected
    }


def reach(model, exact: dict[str, Logits], profile: RoundingProfile) -> dict[str, float]:
    """How far the logits move when every call's result is at one end of its interval."""
    moved = [
        distance(logits(model, experts_at_the_ends(profile, seed)), exact) for seed in range(2)
    ]
    return {phase: max(each[phase] for each in moved) for phase in exact}


def run_with(kernel: JudgedKernel, model, monkeypatch) -> dict[str, Logits]:
    monkeypatch.setattr(integration, "fused_experts", kernel)
    integration.register()
    return logits(model, integration.NAME)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_the_same_with_the_kernel(name, dtype, monkeypatch):
    model = build(name, dtype)
    kernel = JudgedKernel(integration.fused_experts)
    with_kernel = run_with(kernel, model, monkeypatch)
    layers_with_experts = 1 if name == "deepseek_v3" else 2
    assert len(kernel.error_ratios) == layers_with_experts * (1 + DECODED)
    assert max(kernel.error_ratios) <= 1

    exact, eager = logits(model, oracle_experts), logits(model, "eager")
    kernel_reach, eager_reach = reach(model, exact, KERNEL), reach(model, exact, EAGER)
    from_exact, from_eager = distance(with_kernel, exact), distance(with_kernel, eager)
    for phase in exact:
        assert from_exact[phase] <= kernel_reach[phase]
        assert from_eager[phase] <= kernel_reach[phase] + eager_reach[phase]


def swapped(hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights):
    up_gate = torch.cat(gate_up_proj.chunk(2, dim=1)[::-1], dim=1)
    return fused_experts(hidden_states, up_gate, down_proj, topk_ids, topk_weights)


def without_the_last_slot(hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights):
    kept = (topk_ids[:, :-1].contiguous(), topk_weights[:, :-1].contiguous())
    return fused_experts(hidden_states, gate_up_proj, down_proj, *kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("fault", [swapped, without_the_last_slot])
def test_a_faulty_kernel_is_seen_in_its_calls_and_in_the_logits(fault, dtype, monkeypatch):
    model = build("mixtral", dtype)
    kernel = JudgedKernel(fault)
    with_kernel = run_with(kernel, model, monkeypatch)
    assert min(kernel.error_ratios) > 1
    exact = logits(model, oracle_experts)
    limit = reach(model, exact, EAGER)
    for phase, from_exact in distance(with_kernel, exact).items():
        assert from_exact > 2 * limit[phase]
