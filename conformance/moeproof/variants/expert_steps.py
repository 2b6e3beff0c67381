"""Right experts as a chain of small steps: variants and faults replace some of them.

Everything is elementwise or summed in a fixed tree, so a token's bits depend on nothing but its
own row, its experts and its weights: not on its position, the batch or the experts' numbering.
Runs on any torch device; sums are float32, the intermediate values are rounded to storage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

Tensor = torch.Tensor

_LARGEST_BLOCK = 2**22  # products held at once


@dataclass(frozen=True)
class Call:
    """The five arguments of ``fused_experts``."""

    hidden_states: Tensor
    gate_up_proj: Tensor
    down_proj: Tensor
    topk_ids: Tensor
    topk_weights: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """The storage format."""
        return self.hidden_states.dtype

    @property
    def num_experts(self) -> int:
        """E."""
        return self.gate_up_proj.shape[0]


@dataclass(frozen=True)
class Schedule:
    """The S slots that name an expert, ordered by expert; each field (S,) int64.

    Attributes:
        expert: whose weights the slot is multiplied with.
        token: row of ``hidden_states``.
        slot: column of ``topk_ids``.
    """

    expert: Tensor
    token: Tensor
    slot: Tensor

    def keep(self, kept: Tensor) -> Schedule:
        """The slots at which ``kept`` (S,) is true."""
        return Schedule(self.expert[kept], self.token[kept], self.slot[kept])

    def group_size(self) -> Tensor:
        """(S,): how many slots the slot's expert has."""
        return torch.bincount(self.expert)[self.expert] if len(self.expert) else self.expert

    def rank(self) -> Tensor:
        """(S,): the slot's place among those of its expert, from 0."""
        first = torch.searchsorted(self.expert, self.expert)
        return torch.arange(len(self.expert), device=first.device) - first


def validate(call: Call) -> None:
    """Raise ValueError, naming the argument, unless shapes, dtypes and devices fit together."""
    hidden, gate_up, down = call.hidden_states, call.gate_up_proj, call.down_proj
    if hidden.ndim != 2 or not hidden.is_floating_point():
        raise ValueError(f"hidden_states must be (T, H) of a floating dtype, got {_seen(hidden)}")
    if gate_up.ndim != 3 or gate_up.shape[1] % 2:
        raise ValueError(f"gate_up_proj must be (E, 2I, H), got {_seen(gate_up)}")
    experts, double, width = gate_up.shape
    if hidden.shape[1] != width:
        raise ValueError(f"hidden_states must have H = {width} columns, got {_seen(hidden)}")
    if tuple(down.shape) != (experts, width, double // 2):
        wanted = (experts, width, double // 2)
        raise ValueError(f"down_proj must be (E, H, I) = {wanted}, got {_seen(down)}")
    ids, weights = call.topk_ids, call.topk_weights
    if ids.ndim != 2 or len(ids) != len(hidden) or ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"topk_ids must be ({len(hidden)}, K) integers, got {_seen(ids)}")
    if weights.shape != ids.shape or weights.dtype is not torch.float32:
        raise ValueError(
            f"topk_weights must be float32 of shape {tuple(ids.shape)}, got {_seen(weights)}"
        )
    for name, tensor in vars(call).items():
        if tensor.device != hidden.device:
            raise ValueError(f"{name} must be on {hidden.device}, got {_seen(tensor)}")
        if name.endswith("_proj") and tensor.dtype is not hidden.dtype:
            raise ValueError(f"{name} must be {hidden.dtype}, got {_seen(tensor)}")


def _seen(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"


def schedule(call: Call) -> Schedule:
    """The slots with an id in [0, E), by expert and then by token."""
    ids = call.topk_ids.long()
    token, slot = torch.where((ids >= 0) & (ids < call.num_experts))
    expert = ids[token, slot]
    order = torch.argsort(expert, stable=True)
    return Schedule(expert[order], token[order], slot[order])


def read_rows(call: Call, token: Tensor) -> Tensor:
    """(S, H) float32: the tokens' hidden states."""
    return call.hidden_states[token].float()


def read_weights(call: Call, weights: Tensor, expert: Tensor) -> Tensor:
    """(S, N, K) float32: each slot's own expert's matrix out of ``weights`` (E, N, K)."""
    return weights[expert].float()


def multiply(call: Call, rows: Tensor, weights: Tensor) -> Tensor:
    """(S, N, K): products of rows (S, K) with their matrices (S, N, K)."""
    return rows[:, None, :] * weights


def accumulate(call: Call, products: Tensor) -> Tensor:
    """(S, N) float32: sums over the last axis of ``products`` (S, N, K), as a tree."""
    while products.shape[-1] > 1:
        half = (products.shape[-1] + 1) // 2
        upper = products[..., half:]
        products = products[..., :half] + functional.pad(upper, (0, half - upper.shape[-1]))
    return products[..., 0]


def split(call: Call, gate_up: Tensor) -> tuple[Tensor, Tensor]:
    """Gate and up (S, I) out of both (S, 2I)."""
    half = gate_up.shape[1] // 2
    return gate_up[:, :half], gate_up[:, half:]


def activate(call: Call, gate: Tensor, up: Tensor) -> Tensor:
    """SiLU(gate) * up (S, I), float32; SiLU through float64, whose last bit nobody sees."""
    exact = gate.double()
    return (exact * torch.sigmoid(exact)).float() * up


def store_intermediate(call: Call, values: Tensor) -> Tensor:
    """The intermediate values rounded to storage."""
    return values.to(call.dtype)


def weigh(call: Call, schedule: Schedule, outputs: Tensor) -> Tensor:
    """The experts' outputs (S, H) times their routing weights."""
    return outputs * call.topk_weights[schedule.token, schedule.slot][:, None]


def combine(call: Call, schedule: Schedule, weighted: Tensor) -> Tensor:
    """(T, H) float32: each token's slots summed in their order."""
    return sum_slots(by_slot(call, schedule, weighted))


def by_slot(call: Call, schedule: Schedule, weighted: Tensor) -> Tensor:
    """(T, K, H): ``weighted`` (S, H) where it belongs, zeros elsewhere."""
    table = weighted.new_zeros((*call.topk_ids.shape, weighted.shape[1]))
    table[schedule.token, schedule.slot] = weighted
    return table


def sum_slots(table: Tensor) -> Tensor:
    """(T, H): the sum over the slots of a table (T, K, H), in order."""
    total = torch.zeros_like(table[:, 0])
    for column in table.unbind(1):
        total = total + column
    return total


def store_output(call: Call, total: Tensor) -> Tensor:
    """The output (T, H), rounded to storage."""
    return total.to(call.dtype)


@dataclass(frozen=True)
class ExpertSteps:
    """The steps in the order in which they run; the defaults are right."""

    validate: Callable[[Call], None] = validate
    schedule: Callable[[Call], Schedule] = schedule
    read_rows: Callable[[Call, Tensor], Tensor] = read_rows
    read_weights: Callable[[Call, Tensor, Tensor], Tensor] = read_weights
    multiply: Callable[[Call, Tensor, Tensor], Tensor] = multiply
    accumulate: Callable[[Call, Tensor], Tensor] = accumulate
    split: Callable[[Call, Tensor], tuple[Tensor, Tensor]] = split
    activate: Callable[[Call, Tensor, Tensor], Tensor] = activate
    store_intermediate: Callable[[Call, Tensor], Tensor] = store_intermediate
    weigh: Callable[[Call, Schedule, Tensor], Tensor] = weigh
    combine: Callable[[Call, Schedule, Tensor], Tensor] = combine
    store_output: Callable[[Call, Tensor], Tensor] = store_output

    def run(self, call: Call) -> Tensor:
        """The output (T, H) of one call."""
        self.validate(call)
        slots = self.schedule(call)
        rows = self.read_rows(call, slots.token)
        gate, up = self.split(call, self._project(call, rows, call.gate_up_proj, slots.expert))
        intermediate = self.store_intermediate(call, self.activate(call, gate, up))
        outputs = self._project(call, intermediate.float(), call.down_proj, slots.expert)
        total = self.combine(call, slots, self.weigh(call, slots, outputs))
        return self.store_output(call, total)

    def fused_experts(
        self,
        hidden_states: Tensor,
        gate_up_proj: Tensor,
        down_proj: Tensor,
        topk_ids: Tensor,
        topk_weights: Tensor,
    ) -> Tensor:
        """:meth:`run`, with the signature of an implementation."""
        return self.run(Call(hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights))

    def _project(self, call: Call, rows: Tensor, weights: Tensor, expert: Tensor) -> Tensor:
        """(S, N) float32: rows (S, K) times their experts' matrices (E, N, K), in blocks."""
        outputs = rows.new_empty((len(rows), weights.shape[1]))
        block = max(1, _LARGEST_BLOCK // (weights.shape[1] * weights.shape[2]))
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            matrices = self.read_weights(call, weights, expert[part])
            outputs[part] = self.accumulate(call, self.multiply(call, rows[part], matrices))
        return outputs


RIGHT_EXPERTS = ExpertSteps()
"""No step replaced."""
