"""The rule by which a router chooses experts and weighs them."""

from __future__ import annotations

from typing import NamedTuple

SCORINGS = ("softmax", "sigmoid")


class RoutingOptions(NamedTuple):
    """`api.route`'s options but its tensors; they are explained there."""

    top_k: int
    scoring: str
    renormalize: bool
    num_groups: int
    topk_groups: int | None
    scaling_factor: float

    @property
    def groups_taking_part(self) -> int:
        """All where none are counted out."""
        return self.num_groups if self.topk_groups is None else self.topk_groups
