"""The rule by which a router chooses experts and weighs them."""

from __future__ import annotations

from typing import NamedTuple

SCORINGS = ("softmax", "sigmoid")


class RoutingOptions(NamedTuple):
    """`api.route`'s options but its tensors, explained there; `topk_groups` is resolved."""

    top_k: int
    scoring: str
    renormalize: bool
    num_groups: int
    topk_groups: int
    scaling_factor: float


def routing_options(
    top_k: int,
    *,
    scoring: str,
    renormalize: bool,
    num_groups: int,
    topk_groups: int | None,
    scaling_factor: float,
) -> RoutingOptions:
    """The options with all groups taking part where none are counted out."""
    return RoutingOptions(
        top_k,
        scoring,
        renormalize,
        num_groups,
        num_groups if topk_groups is None else topk_groups,
        scaling_factor,
    )
