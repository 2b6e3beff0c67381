"""What is timed: a real model's MoE layer, a number of tokens and a way of routing them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from moe_dispatch.target import device_type

MODELS = Path(__file__).resolve().parents[3] / "fixtures" / "models"
ROUTINGS = ("uniform", "zipf", "same_experts", "half_to_one", "one_each")


@dataclass(frozen=True)
class Shape:
    """Sizes of one MoE layer: H, I, E, K."""

    name: str
    hidden_size: int
    intermediate_size: int
    num_experts: int
    top_k: int

    def weight_bytes(self, experts: int, element_size: int) -> int:
        """Bytes of ``experts`` experts' gate, up and down projections."""
        return experts * 3 * self.hidden_size * self.intermediate_size * element_size

    def flops(self, slots: int) -> int:
        """Multiplications and additions of ``slots`` = T * K rows."""
        return 6 * slots * self.hidden_size * self.intermediate_size


def model_shape(name: str) -> Shape:
    """The shape in ``fixtures/models/NAME.json``; ValueError lists the names there are."""
    path = MODELS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in MODELS.glob("*.json")))
        raise ValueError(f"shape {name!r} is unknown; allowed: {known}")
    content = json.loads(path.read_text(encoding="utf-8"))
    sizes = ("hidden_size", "intermediate_size", "num_experts", "top_k")
    return Shape(name, *(content[size] for size in sizes))


@dataclass(frozen=True)
class Layer:
    """One layer's weights on the GPU."""

    shape: Shape
    gate_up_proj: torch.Tensor
    down_proj: torch.Tensor


def make_layer(shape: Shape, dtype: torch.dtype) -> Layer:
    """Random weights that give outputs of order one."""
    hidden, intermediate = shape.hidden_size, shape.intermediate_size
    size = (shape.num_experts, 2 * intermediate, hidden)
    gate_up = torch.empty(size, dtype=dtype, device=device_type()).normal_(std=2 * hidden**-0.5)
    size = (shape.num_experts, hidden, intermediate)
    down = torch.empty(size, dtype=dtype, device=device_type()).normal_(std=intermediate**-0.5)
    return Layer(shape, gate_up, down)


@dataclass(frozen=True)
class Batch:
    """Activations (T, H), ids (T, K) int32 and weights (T, K) float32 on the GPU."""

    hidden_states: torch.Tensor
    topk_ids: torch.Tensor
    topk_weights: torch.Tensor

    def active_experts(self) -> int:
        """Experts that at least one slot names."""
        return int(self.topk_ids.unique().numel())


def make_batch(
    shape: Shape, num_tokens: int, *, routing: str, dtype: torch.dtype, seed: int
) -> Batch:
    """A batch routed as ``routing`` says; another seed gives other tokens and other experts."""
    generator = torch.Generator(device=device_type()).manual_seed(seed)
    ids = route_tokens(shape, num_tokens, routing=routing, generator=generator)
    hidden_states = torch.randn(
        (num_tokens, shape.hidden_size), generator=generator, device=device_type()
    ).to(dtype)
    weights = torch.rand(ids.shape, generator=generator, device=device_type()) + 0.1
    return Batch(hidden_states, ids, weights / weights.sum(dim=1, keepdim=True))


def route_tokens(
    shape: Shape, num_tokens: int, *, routing: str, generator: torch.Generator
) -> torch.Tensor:
    """topk_ids (T, K) int32 on the generator's device; ValueError lists the routings there are."""
    device, experts, top_k = generator.device, shape.num_experts, shape.top_k
    finish = torch.rand((num_tokens, experts), generator=generator, device=device)
    if routing == "zipf":  # a race in which rank r runs at speed 1/r
        finish = -torch.log(finish) * torch.arange(1, experts + 1, device=device)
    elif routing == "same_experts":
        finish = finish[:1].expand(num_tokens, experts)
    elif routing == "half_to_one":
        finish[::2, 0] = -1.0
    elif routing not in ("uniform", "one_each"):
        raise ValueError(f"routing {routing!r} is unknown; allowed: {', '.join(ROUTINGS)}")
    ids = finish.argsort(dim=1)[:, :top_k].to(torch.int32).contiguous()
    if routing == "one_each":  # slots dealt out in turn, so that every expert gets as many
        ids = (torch.arange(num_tokens * top_k, device=device) % experts).view(ids.shape).int()
    return ids
