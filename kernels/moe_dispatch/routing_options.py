"""The rule by which a router chooses experts and weighs them."""

from __future__ import annotations

from typing import NamedTuple

import torch

SCORINGS = ("softmax", "sigmoid")


class RoutingOptions(NamedTuple):
    """`api.route`'s options, where they are explained; `topk_groups` is resolved."""

    top_k: int
    scoring: str
    renormalize: bool
    correction_bias: torch.Tensor | None
    num_groups: int
    topk_groups: int
    scaling_factor: float
