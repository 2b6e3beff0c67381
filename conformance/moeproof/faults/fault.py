"""A planted bug: an implementation that is right but for one step, and what it stands for.

A fault claims all that the right steps fulfil, so that it is judged by every check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from moeproof.implementation import Implementation
from moeproof.variants import CLAIMS
from moeproof.variants.expert_steps import RIGHT_EXPERTS, Call, Tensor
from moeproof.variants.router_steps import RIGHT_ROUTER

Function = Callable[..., Any]
Kind = Literal["experts", "router"]


@dataclass(frozen=True)
class Fault:
    """An implementation that is wrong on purpose.

    Attributes:
        name: in ``FAULTS`` and in reports.
        summary: what it does wrong, for people.
        stands_for: public issues with such a bug, as ``owner/repository#number``.
        bug_class: its kind, such as "schedule" or "precision".
        kind: what is wrong: the experts or the router.
        implementation: what is judged.
    """

    name: str
    summary: str
    stands_for: tuple[str, ...]
    bug_class: str
    kind: Kind
    implementation: Implementation


CONTROL = Fault(
    "none",
    "nothing: all steps are right",
    (),
    "none",
    "experts",
    Implementation(
        "moeproof.faults:none", RIGHT_EXPERTS.fused_experts, RIGHT_ROUTER.route, capabilities=CLAIMS
    ),
)
"""What every check must pass, so that a catch is due to the fault alone."""

FAULTS: dict[str, Fault] = {}
"""Every fault by name, filled by the modules that plant them."""


def expert_fault(
    step: str, summary: str, *, bug_class: str, stands_for: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Register a function as the fault that replaces one of :class:`ExpertSteps`, by its name."""

    def plant(wrong_step: Function) -> Function:
        wrong = replace(RIGHT_EXPERTS, **{step: wrong_step}).fused_experts
        implementation = replace(CONTROL.implementation, fused_experts=wrong)
        _register(wrong_step, summary, stands_for, bug_class, "experts", implementation)
        return wrong_step

    return plant


def router_fault(
    step: str, summary: str, *, bug_class: str, stands_for: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """As :func:`expert_fault`, for one of :class:`RouterSteps`."""

    def plant(wrong_step: Function) -> Function:
        wrong = replace(RIGHT_ROUTER, **{step: wrong_step}).route
        implementation = replace(CONTROL.implementation, route=wrong)
        _register(wrong_step, summary, stands_for, bug_class, "router", implementation)
        return wrong_step

    return plant


def call_fault(
    summary: str, *, bug_class: str, stands_for: tuple[str, ...] = ()
) -> Callable[[Callable[[Call], Tensor]], Callable[[Call], Tensor]]:
    """Register a function of the whole call of the experts, for bugs around right steps."""

    def plant(wrong: Callable[[Call], Tensor]) -> Callable[[Call], Tensor]:
        def fused_experts(*arguments: Tensor) -> Tensor:
            return wrong(Call(*arguments))

        implementation = replace(CONTROL.implementation, fused_experts=fused_experts)
        _register(wrong, summary, stands_for, bug_class, "experts", implementation)
        return wrong

    return plant


def _register(
    function: Function,
    summary: str,
    stands_for: tuple[str, ...],
    bug_class: str,
    kind: Kind,
    implementation: Implementation,
) -> None:
    name = function.__name__
    if name in FAULTS:
        raise ValueError(f"fault {name!r} is registered twice")
    named = replace(implementation, name=f"moeproof.faults:{name}")
    FAULTS[name] = Fault(name, summary, stands_for, bug_class, kind, named)
