"""Faults in SiLU(gate) * up, and in what is taken for gate and for up."""

from __future__ import annotations

import torch
from torch.nn import functional

from moeproof.faults.fault import expert_fault
from moeproof.faults.rounding import significant_bits
from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import Call, Tensor


@expert_fault("split", "gate and up change places", bug_class="layout")
def gate_and_up_swapped(call: Call, gate_up: Tensor) -> tuple[Tensor, Tensor]:
    gate, up = right.split(call, gate_up)
    return up, gate


@expert_fault(
    "split",
    "rows of gate and up are taken in turn, not one block after the other",
    bug_class="layout",
    stands_for=("vllm-project/vllm#29273",),
)
def gate_and_up_interleaved(call: Call, gate_up: Tensor) -> tuple[Tensor, Tensor]:
    return gate_up[:, 0::2], gate_up[:, 1::2]


@expert_fault(
    "split",
    "both products go into one accumulator",
    bug_class="compiler",
    stands_for=("triton-lang/triton#10821",),
)
def gate_and_up_share_accumulator(call: Call, gate_up: Tensor) -> tuple[Tensor, Tensor]:
    gate, up = right.split(call, gate_up)
    return gate, gate + up


@expert_fault("activate", "GELU instead of SiLU", bug_class="activation")
def gelu(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    return functional.gelu(gate) * up


@expert_fault("activate", "g * sigmoid(1.702 g) instead of SiLU", bug_class="activation")
def quick_gelu(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    return gate * torch.sigmoid(1.702 * gate) * up


@expert_fault("activate", "ReLU instead of SiLU", bug_class="activation")
def relu(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    return functional.relu(gate) * up


@expert_fault("activate", "piecewise linear SiLU (hard swish)", bug_class="activation")
def hard_swish(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    return functional.hardswish(gate) * up


@expert_fault("activate", "the gate's sigmoid without the gate", bug_class="activation")
def sigmoid_gate(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    return torch.sigmoid(gate) * up


@expert_fault("activate", "the sigmoid is rounded to storage", bug_class="precision")
def sigmoid_in_storage(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    return gate * torch.sigmoid(gate).to(call.dtype).float() * up


@expert_fault(
    "activate", "sigmoid by a hardware tanh that is good to eleven bits", bug_class="precision"
)
def sigmoid_by_tanh_approx(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    tanh = significant_bits(torch.tanh(gate * 0.5), 11)
    return gate * (0.5 + 0.5 * tanh) * up


@expert_fault("activate", "exp(g) / (1 + exp(g)) overflows for large gates", bug_class="precision")
def sigmoid_overflows(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    exponential = torch.exp(gate)
    return gate * (exponential / (1 + exponential)) * up


@expert_fault("activate", "log2(e) is given with five digits", bug_class="precision")
def log2_e_too_short(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    return gate / (1 + torch.exp2(-1.4427 * gate)) * up


@expert_fault(
    "activate", "gate and up are clamped to 7, as only some models ask", bug_class="activation"
)
def gate_and_up_clamped(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    return right.activate(call, gate.clamp(max=7.0), up.clamp(-7.0, 7.0))


@expert_fault("activate", "(up + 1) as only some models ask", bug_class="activation")
def up_plus_one(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    return right.activate(call, gate, up + 1)
