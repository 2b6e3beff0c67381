"""A loop over the experts in plain torch operations: a baseline that is easy to see right."""

from __future__ import annotations

import torch
from torch.nn import functional

from moeproof.case import Layout
from moeproof.implementation import Capabilities, Implementation
from moeproof.rounding_profile import RoundingProfile


def fused_experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
) -> torch.Tensor:
    """(T, H): every expert on the tokens that chose it, then each token's weighted sum in fp32."""
    outputs = hidden_states.new_zeros((*topk_ids.shape, hidden_states.shape[1]))
    for expert in range(gate_up_proj.shape[0]):
        token, slot = torch.where(topk_ids == expert)
        gate, up = functional.linear(hidden_states[token], gate_up_proj[expert]).chunk(2, dim=1)
        outputs[token, slot] = functional.linear(functional.silu(gate) * up, down_proj[expert])
    return (outputs.float() * topk_weights[..., None]).sum(dim=1).to(hidden_states.dtype)


def route(
    router_logits: torch.Tensor,
    top_k: int,
    *,
    scoring: str,
    renormalize: bool,
    correction_bias: torch.Tensor | None,
    num_groups: int,
    topk_groups: int,
    scaling_factor: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``topk_ids`` (T, K) int64 and ``topk_weights`` (T, K) float32 of logits (T, E).

    Groups are chosen as in DeepSeek-V3 (arXiv 2412.19437, section 2.1.2): by the sum of their two
    best scores, with the correction bias.
    """
    logits = router_logits.float()
    scores = logits.softmax(dim=-1) if scoring == "softmax" else logits.sigmoid()
    choice = scores if correction_bias is None else scores + correction_bias
    if num_groups > 1:
        choice = _within_best_groups(choice, num_groups, topk_groups)
    ids = choice.topk(top_k, dim=-1).indices
    weights = scores.gather(1, ids)
    if renormalize:
        # Sigmoids of logits below -104 are all zero in fp32; the floor keeps 0/0 out.
        total = weights.sum(dim=-1, keepdim=True)
        weights = weights / total.clamp_min(torch.finfo(torch.float32).tiny)
    return ids, weights * scaling_factor


def _within_best_groups(choice: torch.Tensor, num_groups: int, topk_groups: int) -> torch.Tensor:
    """The scores (T, E) with -inf outside each token's best groups of consecutive experts."""
    grouped = choice.view(len(choice), num_groups, choice.shape[1] // num_groups)
    best_two = grouped.topk(min(2, grouped.shape[2]), dim=-1).values.sum(dim=-1)
    kept = torch.zeros_like(best_two, dtype=torch.bool)
    kept.scatter_(1, best_two.topk(topk_groups, dim=-1).indices, True)
    return grouped.masked_fill(~kept[..., None], -torch.inf).flatten(1)


# Every operation's result is stored, but for the sum over the slots.
_ROUNDING = RoundingProfile(
    gate_up="yes", silu="yes", intermediate="yes", expert_output="yes", weights_applied="after"
)
# On CUDA, torch lets split sums of matrix products be added in 16 bits by default.
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False

implementation = Implementation(
    name="torch_eager",
    fused_experts=fused_experts,
    route=route,
    capabilities=Capabilities(
        layouts=frozenset(Layout),
        masked_ids=True,
        deterministic=True,
        router_rules=frozenset({"softmax", "sigmoid", "raw", "bias", "groups", "scale"}),
        rounding=dict.fromkeys(("bf16", "fp16"), _ROUNDING),
    ),
    version=torch.__version__,
)
