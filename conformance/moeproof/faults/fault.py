"""A planted bug: an implementation that is right but for one step, and what it stands for.

A fault claims all that the right steps fulfil, so that it is judged by every check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from moeproof.checks.check import ALL_DEVICES
from moeproof.implementation import Implementation
from moeproof.variants import CLAIMS
from moeproof.variants.expert_steps import RIGHT_EXPERTS, Call, Tensor
from moeproof.variants.router_steps import RIGHT_ROUTER

Function = Callable[..., Any]
Kind = Literal["experts", "kernel", "router", "right"]
Entry = Literal["fused_experts", "route"]


@dataclass(frozen=True)
class Fault:
    """An implementation that is wrong on purpose.

    Attributes:
        name: in ``FAULTS`` and in reports.
        summary: what it does wrong, for people.
        stands_for: public issues with such a bug, as ``owner/repository#number``.
        bug_class: such as "schedule" or "precision".
        kind: what it is made from: right experts or a right router in torch, or a kernel;
            "right" if nothing is wrong.
        entry: the function that is wrong; cases of the other are not judged.
        load: imports what is judged. A kernel must be imported in a worker process.
        devices: where it does something else than the right implementation at all.
        found_in: the module in which ``--implementation`` finds it by its name.
    """

    name: str
    summary: str
    stands_for: tuple[str, ...]
    bug_class: str
    kind: Kind
    entry: Entry
    load: Callable[[], Implementation]
    devices: frozenset[str] = ALL_DEVICES
    found_in: str = "moeproof.faults"

    @property
    def implementation(self) -> Implementation:
        """What is judged."""
        return self.load()

    @property
    def reference(self) -> str:
        """What ``--implementation`` calls it."""
        return f"{self.found_in}:{self.name}"


def reference_of(name: str) -> str:
    """What ``--implementation`` calls a fault's implementation."""
    return f"moeproof.faults:{name}"


_RIGHT_STEPS = Implementation(
    reference_of("none"), RIGHT_EXPERTS.fused_experts, RIGHT_ROUTER.route, capabilities=CLAIMS
)
CONTROL = Fault(
    "none",
    "nothing: all steps are right",
    (),
    "none",
    "right",
    "fused_experts",
    lambda: _RIGHT_STEPS,
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
        implementation = replace(_RIGHT_STEPS, fused_experts=wrong)
        _plant(wrong_step, summary, stands_for, bug_class, implementation)
        return wrong_step

    return plant


def router_fault(
    step: str, summary: str, *, bug_class: str, stands_for: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """As :func:`expert_fault`, for one of :class:`RouterSteps`."""

    def plant(wrong_step: Function) -> Function:
        wrong = replace(RIGHT_ROUTER, **{step: wrong_step}).route
        implementation = replace(_RIGHT_STEPS, route=wrong)
        _plant(wrong_step, summary, stands_for, bug_class, implementation)
        return wrong_step

    return plant


def call_fault(
    summary: str, *, bug_class: str, stands_for: tuple[str, ...] = ()
) -> Callable[[Callable[[Call], Tensor]], Callable[[Call], Tensor]]:
    """Register a function of the whole call of the experts, for bugs around right steps."""

    def plant(wrong: Callable[[Call], Tensor]) -> Callable[[Call], Tensor]:
        def fused_experts(*arguments: Tensor) -> Tensor:
            return wrong(Call(*arguments))

        implementation = replace(_RIGHT_STEPS, fused_experts=fused_experts)
        _plant(wrong, summary, stands_for, bug_class, implementation)
        return wrong

    return plant


def register(fault: Fault) -> None:
    """Add a fault to ``FAULTS``. Raises ValueError if its name is taken."""
    if fault.name in FAULTS:
        raise ValueError(f"fault {fault.name!r} is registered twice")
    FAULTS[fault.name] = fault


def _plant(
    function: Function,
    summary: str,
    stands_for: tuple[str, ...],
    bug_class: str,
    implementation: Implementation,
) -> None:
    """Register the right steps with one replaced, under the name of what replaces it."""
    name = function.__name__
    named = replace(implementation, name=reference_of(name))
    of_experts = named.route is _RIGHT_STEPS.route
    register(
        Fault(
            name,
            summary,
            stands_for,
            bug_class,
            "experts" if of_experts else "router",
            "fused_experts" if of_experts else "route",
            lambda: named,
        )
    )
