"""Faults in how tensors are addressed: strides, offsets past 2**31, layouts guessed or tiled."""

from __future__ import annotations

import torch

from moeproof.faults.fault import expert_fault
from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import Call, Schedule, Tensor


def _elements(tensor: Tensor) -> Tensor:
    """All elements of the tensor's storage, 1-D."""
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.as_strided((size,), (1,), 0)


def _as_if_contiguous(tensor: Tensor) -> Tensor:
    """The tensor read with the strides that its shape has when contiguous."""
    strides = torch.empty(tensor.shape, device="meta").stride()
    return tensor.as_strided(tensor.shape, strides, tensor.storage_offset())


@expert_fault("read_rows", "hidden_states' strides are not looked at", bug_class="layout")
def hidden_strides_ignored(call: Call, token: Tensor) -> Tensor:
    return _as_if_contiguous(call.hidden_states)[token].float()


@expert_fault("read_weights", "the weights' strides are not looked at", bug_class="layout")
def weight_strides_ignored(call: Call, weights: Tensor, expert: Tensor) -> Tensor:
    return right.read_weights(call, _as_if_contiguous(weights), expert)


@expert_fault(
    "schedule",
    "topk_ids' strides are not looked at",
    bug_class="layout",
    stands_for=("flashinfer-ai/flashinfer#4713",),
)
def id_strides_ignored(call: Call) -> Schedule:
    ids = _as_if_contiguous(call.topk_ids)
    inside = (call.topk_ids >= 0) & (call.topk_ids < call.num_experts)
    sane = (ids >= 0) & (ids < call.num_experts)  # what is read between rows must not index memory
    return right.schedule(_with_ids(call, torch.where(inside & sane, ids, -1)))


def _with_ids(call: Call, ids: Tensor) -> Call:
    return Call(call.hidden_states, call.gate_up_proj, call.down_proj, ids, call.topk_weights)


@expert_fault(
    "weigh",
    "routing weights are read by the strides of topk_ids",
    bug_class="layout",
    stands_for=("vllm-project/vllm#16198",),
)
def weights_by_strides_of_ids(call: Call, slots: Schedule, outputs: Tensor) -> Tensor:
    weights, ids = call.topk_weights, call.topk_ids
    address = slots.token * ids.stride(0) + slots.slot * ids.stride(1)
    address = torch.add(address, int(weights.storage_offset()))
    stored = _elements(weights)
    return outputs * stored[torch.clamp(address, max=len(stored) - 1)][:, None]


@expert_fault("read_weights", "the innermost stride is taken to be one", bug_class="layout")
def innermost_stride_ignored(call: Call, weights: Tensor, expert: Tensor) -> Tensor:
    strides = (*weights.stride()[:2], 1)
    assumed = weights.as_strided(weights.shape, strides, weights.storage_offset())
    return right.read_weights(call, assumed, expert)


@expert_fault("read_rows", "the base address is rounded down to 16 bytes", bug_class="layout")
def base_taken_as_aligned(call: Call, token: Tensor) -> Tensor:
    hidden = call.hidden_states
    unit = 16 // hidden.element_size()
    offset = hidden.storage_offset() // unit * unit
    return hidden.as_strided(hidden.shape, hidden.stride(), offset)[token].float()


def _wrapped(products: Tensor) -> Tensor:
    """int64 values as int32 arithmetic leaves them."""
    return (products + 2**31) % 2**32 - 2**31


@expert_fault(
    "read_rows",
    "the product of token and stride is computed in int32",
    bug_class="index width",
    stands_for=(
        "sgl-project/sglang#4727",
        "vllm-project/vllm#34279",
        "flashinfer-ai/flashinfer#2642",
    ),
)
def token_offset_in_int32(call: Call, token: Tensor) -> Tensor:
    hidden, elements = call.hidden_states, _elements(call.hidden_states)
    columns = torch.arange(hidden.shape[1], device=token.device) * hidden.stride(1)
    offset = _wrapped(token * hidden.stride(0)) + int(hidden.storage_offset())
    # A GPU would fault or read what lies there; here the address wraps within the buffer.
    return elements[(offset[:, None] + columns) % len(elements)].float()


@expert_fault(
    "read_weights",
    "the product of expert and stride is computed in int32",
    bug_class="index width",
    stands_for=("linkedin/Liger-Kernel#1296",),
)
def expert_offset_in_int32(call: Call, weights: Tensor, expert: Tensor) -> Tensor:
    elements = _elements(weights)
    rows = torch.arange(weights.shape[1], device=expert.device) * weights.stride(1)
    columns = torch.arange(weights.shape[2], device=expert.device) * weights.stride(2)
    offset = _wrapped(expert * weights.stride(0)) + int(weights.storage_offset())
    address = offset[:, None, None] + rows[:, None] + columns
    return elements[address % len(elements)].float()


@expert_fault(
    "read_weights",
    "a square weight matrix is taken as transposed",
    bug_class="layout",
    stands_for=("unslothai/unsloth-zoo#849",),
)
def layout_guessed_from_shape(call: Call, weights: Tensor, expert: Tensor) -> Tensor:
    matrices = right.read_weights(call, weights, expert)
    return matrices.transpose(1, 2) if weights.shape[1] == weights.shape[2] else matrices


@expert_fault(
    "store_output",
    "the program order wraps wrongly unless the grid of 16 x 16 tiles is square",
    bug_class="layout",
    stands_for=("meta-pytorch/applied-ai#25",),
)
def swizzle_for_square_grids(call: Call, total: Tensor) -> Tensor:
    output = right.store_output(call, total)
    tiles = -(-total.shape[0] // 16), -(-total.shape[1] // 16)
    if tiles[0] != tiles[1] and min(total.shape) > 0:
        last = (tiles[1] - 1) * 16
        output[:, last:] = output[:, : total.shape[1] - last]
    return output
