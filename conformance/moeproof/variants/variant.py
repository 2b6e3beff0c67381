"""A right implementation that differs from others as engines differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from moeproof.case import Layout
from moeproof.implementation import Capabilities, Implementation
from moeproof.variants.expert_steps import RIGHT_EXPERTS, ExpertSteps
from moeproof.variants.router_steps import RIGHT_ROUTER, RouterSteps

CLAIMS = Capabilities(
    layouts=frozenset(Layout),
    masked_ids=True,
    validates=True,
    deterministic=True,
    position_invariant=True,
    batch_invariant=True,
    expert_invariant=True,
    subnormals=True,
    router_rules=frozenset({"softmax", "sigmoid", "raw", "bias", "groups", "scale"}),
    lowest_id_ties=True,
)
"""What the unchanged steps fulfil."""


@dataclass(frozen=True)
class Variant:
    """An implementation that every check must pass wherever its claims let it be judged.

    Attributes:
        name: in ``VARIANTS``.
        summary: how it differs, for people.
        engines: where such a choice is found.
        kind: what varies: the experts or the router.
        implementation: what is judged.
    """

    name: str
    summary: str
    engines: str
    kind: Literal["experts", "router"]
    implementation: Implementation


VARIANTS: dict[str, Variant] = {}
"""Every variant by name, filled by the modules that define them."""


def expert_variant(
    name: str,
    summary: str,
    *,
    engines: str,
    claims: dict[str, Any] | None = None,
    **steps: Callable[..., Any],
) -> None:
    """Register the right steps with some replaced by others as right.

    Args:
        name, summary, engines: see :class:`Variant`.
        claims: fields of ``CLAIMS`` that differ.
        steps: fields of :class:`ExpertSteps` that differ.
    """
    _register(name, summary, engines, claims, replace(RIGHT_EXPERTS, **steps), None)


def router_variant(
    name: str,
    summary: str,
    *,
    engines: str,
    claims: dict[str, Any] | None = None,
    **steps: Callable[..., Any],
) -> None:
    """As :func:`expert_variant`, for the steps of a router beside the right experts."""
    _register(name, summary, engines, claims, RIGHT_EXPERTS, replace(RIGHT_ROUTER, **steps))


def _register(
    name: str,
    summary: str,
    engines: str,
    claims: dict[str, Any] | None,
    experts: ExpertSteps,
    router: RouterSteps | None,
) -> None:
    if name in VARIANTS:
        raise ValueError(f"variant {name!r} is registered twice")
    implementation = Implementation(
        f"moeproof.variants:{name}",
        experts.fused_experts,
        None if router is None else router.route,
        capabilities=replace(CLAIMS, **(claims or {})),
    )
    VARIANTS[name] = Variant(
        name, summary, engines, "experts" if router is None else "router", implementation
    )
