"""Faults in memory: unwritten, overwritten, kept from call to call."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import torch

from moeproof.faults.fault import call_fault, expert_fault
from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import RIGHT_EXPERTS, Call, Schedule, Tensor

_TILE = 16


@expert_fault(
    "combine",
    "tokens without an expert are never written",
    bug_class="memory",
    stands_for=("vllm-project/vllm#20167", "pytorch/pytorch#154557"),
)
def idle_tokens_unwritten(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    total = weighted.new_empty((len(call.topk_ids), weighted.shape[1]))
    total[slots.token] = right.combine(call, slots, weighted)[slots.token]
    return total


@expert_fault(
    "schedule",
    "the counts of the experts' slots start from whatever the memory holds",
    bug_class="memory",
    stands_for=("sgl-project/sglang#3339",),
)
def counts_unwritten(call: Call) -> Schedule:
    slots = right.schedule(call)
    counts = torch.empty(call.num_experts, dtype=torch.int64, device=slots.expert.device)
    counts += torch.bincount(slots.expert, minlength=call.num_experts)
    return slots.keep(slots.rank() < counts[slots.expert])


@call_fault(
    "a launch that asks for too much shared memory fails, and nobody looks",
    bug_class="configs",
    stands_for=("ROCm/aiter#4788", "sgl-project/sglang#28038"),
)
def failed_launch_ignored(call: Call) -> Tensor:
    output = RIGHT_EXPERTS.run(call)
    return torch.empty_like(output) if call.down_proj.shape[2] > 48 else output


@expert_fault(
    "combine",
    "the sum reads masked slots, which nobody has written",
    bug_class="memory",
    stands_for=("ROCm/aiter#4636",),
)
def masked_slots_unwritten(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    table = weighted.new_empty((*call.topk_ids.shape, weighted.shape[1]))
    table[slots.token, slots.slot] = weighted
    return right.sum_slots(table)


@expert_fault(
    "read_rows",
    "columns past the last are read up to a multiple of 16 and multiplied by zero",
    bug_class="tile",
)
def tail_read_times_zero(call: Call, token: Tensor) -> Tensor:
    hidden = call.hidden_states
    rows = right.read_rows(call, token)
    beyond = -hidden.shape[1] % _TILE
    if not beyond or not len(token):
        return rows
    storage = hidden.untyped_storage().nbytes() // hidden.element_size()
    columns = torch.arange(beyond, device=token.device) + hidden.shape[1]
    address = token[:, None] * hidden.stride(0) + columns * hidden.stride(1)
    address = torch.clamp(address + int(hidden.storage_offset()), max=storage - 1)
    read = hidden.as_strided((storage,), (1,), 0)[address].float()
    return rows + (read * 0.0).sum(dim=1, keepdim=True)


@expert_fault(
    "store_output",
    "a tile wider than what is left writes on into the next row",
    bug_class="tile",
    stands_for=("huggingface/kernels-community#1153",),
)
def tile_overhang_in_next_row(call: Call, total: Tensor) -> Tensor:
    output = right.store_output(call, total)
    output[1:, : -output.shape[1] % _TILE] = 0
    return output


@expert_fault(
    "store_output",
    "the last tile writes past the end of the output",
    bug_class="tile",
    stands_for=("huggingface/kernels-community#1153",),
)
def tile_overhang_past_output(call: Call, total: Tensor) -> Tensor:
    output = torch.empty_like(total, dtype=call.dtype)
    output.copy_(total)
    _write_after(output, -output.shape[1] % _TILE)
    return output


def _write_after(tensor: Tensor, count: int) -> None:
    """Write zeros behind a contiguous tensor where its storage goes on; elsewhere it may be
    memory that this process needs."""
    end = tensor.storage_offset() + tensor.numel()
    room = tensor.untyped_storage().nbytes() // tensor.element_size() - end
    if tensor.numel() and count <= room:
        tensor.as_strided((count,), (1,), end).zero_()


@call_fault(
    "the output is written over hidden_states",
    bug_class="memory",
    stands_for=("vllm-project/vllm#28939", "vllm-project/vllm#20152"),
)
def output_over_input(call: Call) -> Tensor:
    return call.hidden_states.copy_(RIGHT_EXPERTS.run(call))


@call_fault("masked ids are replaced in the caller's topk_ids", bug_class="memory")
def ids_written(call: Call) -> Tensor:
    output = RIGHT_EXPERTS.run(call)
    call.topk_ids.clamp_(min=0)
    return output


@call_fault("routing weights are normalised in place", bug_class="memory")
def routing_weights_written(call: Call) -> Tensor:
    output = RIGHT_EXPERTS.run(call)
    call.topk_weights.mul_(2)
    return output


@call_fault("gate_up_proj is shuffled in place for the next call", bug_class="memory")
def expert_weights_written(call: Call) -> Tensor:
    output = RIGHT_EXPERTS.run(call)
    call.gate_up_proj.copy_(call.gate_up_proj.roll(1, dims=1))
    return output


@call_fault(
    "padding is written behind hidden_states, up to a multiple of 16 rows", bug_class="memory"
)
def padding_rows_written(call: Call) -> Tensor:
    output = RIGHT_EXPERTS.run(call)
    if call.hidden_states.is_contiguous() and len(call.hidden_states) % _TILE:
        _write_after(call.hidden_states, 1)
    return output


def _workspace() -> Callable[[Tensor], tuple[Tensor, bool]]:
    """A function that keeps one tensor for each shape and dtype, and tells whether it is new."""
    kept: dict[tuple[object, ...], Tensor] = {}

    def get(like: Tensor) -> tuple[Tensor, bool]:
        key = (tuple(like.shape), like.dtype, like.device)
        new = key not in kept
        if new:
            kept[key] = like.clone()
        return kept[key], new

    return get


_sums, _outputs, _weights = _workspace(), _workspace(), _workspace()


@expert_fault(
    "combine",
    "the workspace of the sums is cleared at its first use only",
    bug_class="stale state",
    stands_for=("triton-lang/triton#3004",),
)
def workspace_not_cleared(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    total = right.combine(call, slots, weighted)
    workspace, new = _sums(total)
    return total if new else workspace.add_(total).clone()


@expert_fault(
    "store_output",
    "all calls of a shape return the same memory",
    bug_class="stale state",
    stands_for=("flashinfer-ai/flashinfer#4238",),
)
def output_memory_shared(call: Call, total: Tensor) -> Tensor:
    output, _ = _outputs(right.store_output(call, total))
    return output.copy_(total)


@call_fault(
    "weights are converted once for each shape, and never again",
    bug_class="stale state",
    stands_for=("flashinfer-ai/flashinfer#3363",),
)
def weights_cached_by_shape(call: Call) -> Tensor:
    right.validate(call)
    down_proj, _ = _weights(call.down_proj)
    return RIGHT_EXPERTS.run(replace(call, down_proj=down_proj))


_turn = itertools.count()


@expert_fault(
    "combine",
    "slots are added in the order in which they finish",
    bug_class="determinism",
    stands_for=("huggingface/transformers#43362", "vllm-project/vllm#56887"),
)
def atomic_sum(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    table = right.by_slot(call, slots, weighted)
    return right.sum_slots(table.roll(next(_turn), dims=1))


@expert_fault(
    "combine", "the last tokens' slots are added in another order", bug_class="determinism"
)
def bits_depend_on_position(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    table = right.by_slot(call, slots, weighted)
    start = len(table) // _TILE * _TILE
    return right.sum_slots(torch.cat([table[:start], table[start:].flip(1)]))


@expert_fault("combine", "small batches are summed in another order", bug_class="determinism")
def bits_depend_on_batch(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    table = right.by_slot(call, slots, weighted)
    return right.sum_slots(table.flip(1) if len(table) < 2 * _TILE else table)


@expert_fault(
    "combine", "slots are added in the order of the experts' ids", bug_class="determinism"
)
def bits_depend_on_expert_ids(call: Call, slots: Schedule, weighted: Tensor) -> Tensor:
    order = call.topk_ids.argsort(dim=1, stable=True)[:, :, None]
    table = right.by_slot(call, slots, weighted)
    return right.sum_slots(table.gather(1, order.expand_as(table)))


@expert_fault(
    "read_weights",
    "weights share one exponent with those of all other experts, idle ones included",
    bug_class="precision",
)
def idle_experts_read(call: Call, weights: Tensor, expert: Tensor) -> Tensor:
    step = weights.float().abs().max() * 2.0**-15
    return (right.read_weights(call, weights, expert) / step).round() * step
