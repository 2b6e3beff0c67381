"""A right implementation that differs from others as engines differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from moeproof.case import Layout
from moeproof.implementation import Capabilities, Implementation
from moeproof.number_format import STORAGE_FORMATS
from moeproof.rounding_profile import RoundingProfile
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

ROUNDS_INTERMEDIATE = RoundingProfile("no", "no", "yes", "no")
"""How the unchanged steps round."""


@dataclass(frozen=True)
class Variant:
    """An implementation that every check must pass wherever its claims let it be judged.

    Attributes:
        name: in ``VARIANTS``.
        summary: how it differs, for people.
        engines: where such a choice is found.
        kind: what varies: the experts or the router.
        implementation: what is judged. It declares no rounding profile.
        rounding: the rounding profile that it truly has.
    """

    name: str
    summary: str
    engines: str
    kind: Literal["experts", "router"]
    implementation: Implementation
    rounding: RoundingProfile

    @property
    def declared(self) -> Implementation:
        """The same implementation, declaring its rounding profile in every dtype."""
        capabilities = replace(
            self.implementation.capabilities,
            rounding=dict.fromkeys(STORAGE_FORMATS, self.rounding),
        )
        return replace(
            self.implementation,
            name=f"moeproof.variants:declared_{self.name}",
            capabilities=capabilities,
        )


VARIANTS: dict[str, Variant] = {}
"""Every variant by name, filled by the modules that define them."""


def expert_variant(
    name: str,
    summary: str,
    *,
    engines: str,
    claims: dict[str, Any] | None = None,
    rounding: RoundingProfile = ROUNDS_INTERMEDIATE,
    **steps: Callable[..., Any],
) -> None:
    """Register the right steps with some replaced by others as right.

    Args:
        name, summary, engines, rounding: see :class:`Variant`.
        claims: fields of ``CLAIMS`` that differ.
        steps: fields of :class:`ExpertSteps` that differ.
    """
    experts = replace(RIGHT_EXPERTS, **steps)
    _register(name, summary, engines, claims, experts, None, rounding)


def router_variant(
    name: str,
    summary: str,
    *,
    engines: str,
    claims: dict[str, Any] | None = None,
    **steps: Callable[..., Any],
) -> None:
    """As :func:`expert_variant`, for the steps of a router beside the right experts."""
    router = replace(RIGHT_ROUTER, **steps)
    _register(name, summary, engines, claims, RIGHT_EXPERTS, router, ROUNDS_INTERMEDIATE)


def _register(
    name: str,
    summary: str,
    engines: str,
    claims: dict[str, Any] | None,
    experts: ExpertSteps,
    router: RouterSteps | None,
    rounding: RoundingProfile,
) -> None:
    if name in VARIANTS:
        raise ValueError(f"variant {name!r} is registered twice")
    implementation = Implementation(
        f"moeproof.variants:{name}",
        experts.fused_experts,
        None if router is None else router.route,
        capabilities=replace(CLAIMS, **(claims or {})),
    )
    kind: Literal["experts", "router"] = "experts" if router is None else "router"
    VARIANTS[name] = Variant(name, summary, engines, kind, implementation, rounding)
