"""Faults in how a batch is cut into chunks, and in calls that should be refused or are empty."""

from __future__ import annotations

from dataclasses import replace

import torch

from moeproof.faults.fault import call_fault, expert_fault
from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import RIGHT_EXPERTS, Call, Tensor

_CHUNK = 32


def _rows(call: Call, rows: slice) -> Call:
    return replace(
        call,
        hidden_states=call.hidden_states[rows],
        topk_ids=call.topk_ids[rows],
        topk_weights=call.topk_weights[rows],
    )


@call_fault(
    "of the tokens past the first 32 the last, partial chunk is lost",
    bug_class="chunking",
    stands_for=("vllm-project/vllm#20392",),
)
def partial_chunk_lost(call: Call) -> Tensor:
    output = RIGHT_EXPERTS.run(call)
    if len(output) > _CHUNK:
        output[len(output) // _CHUNK * _CHUNK :] = 0
    return output


@call_fault("the first token of each further chunk of 32 counts twice", bug_class="chunking")
def chunk_boundary_doubled(call: Call) -> Tensor:
    output = RIGHT_EXPERTS.run(call)
    output[_CHUNK::_CHUNK] *= 2
    return output


@call_fault("the second chunk of 32 tokens is routed as the first", bug_class="chunking")
def routing_of_first_chunk(call: Call) -> Tensor:
    right.validate(call)
    row = torch.arange(len(call.topk_ids), device=call.topk_ids.device) % _CHUNK
    return RIGHT_EXPERTS.run(
        replace(call, topk_ids=call.topk_ids[row], topk_weights=call.topk_weights[row])
    )


@call_fault(
    "the configuration for 17 to 32 tokens, and no other, leaves out the last column",
    bug_class="configs",
    stands_for=("ROCm/aiter#3933",),
)
def one_configuration_wrong(call: Call) -> Tensor:
    output = RIGHT_EXPERTS.run(call)
    if 16 < len(output) <= 32:
        output[:, -1] = 0
    return output


@call_fault(
    "an empty batch divides by zero",
    bug_class="empty batch",
    stands_for=("sgl-project/sglang#22455",),
)
def empty_batch_crashes(call: Call) -> Tensor:
    output = RIGHT_EXPERTS.run(call)
    slots_per_token = call.topk_ids.numel() // len(call.hidden_states)
    assert slots_per_token == call.topk_ids.shape[1]
    return output


@expert_fault("validate", "nothing is validated", bug_class="validation")
def nothing_validated(call: Call) -> None:
    """Whatever happens later happens."""


@expert_fault("validate", "errors do not name the argument", bug_class="validation")
def errors_name_nothing(call: Call) -> None:
    try:
        right.validate(call)
    except ValueError:
        raise ValueError("invalid argument") from None


@expert_fault("validate", "shapes of the routing are not validated", bug_class="validation")
def routing_not_validated(call: Call) -> None:
    experts_alone = _rows(call, slice(0))
    width = torch.zeros((0, 1), device=call.hidden_states.device)
    right.validate(replace(experts_alone, topk_ids=width.int(), topk_weights=width))
