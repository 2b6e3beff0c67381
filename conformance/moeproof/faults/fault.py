"""A planted bug: an implementation that is right but for one step, and what it stands for.

A fault claims all that the right steps fulfil, so that it is judged by every check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from moeproof.implementation import Implementation
from moeproof.variants import CLAIMS, VARIANTS
from moeproof.variants.expert_steps import RIGHT_EXPERTS, Call, Tensor

Function = Callable[..., Any]


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
    kind: Literal["experts", "router"]
    implementation: Implementation


CONTROL = Fault(
    "none",
    "nothing: all steps are right",
    (),
    "none",
    "experts",
    VARIANTS["tree"].implementation,
)
"""What every check must pass, so that a catch is due to the fault alone."""

FAULTS: dict[str, Fault] = {}
"""Every fault by name, filled by the modules that plant them."""


def expert_fault(
    step: str,
    summary: str,
    *,
    bug_class: str,
    stands_for: tuple[str, ...] = (),
    name: str = "",
) -> Callable[[Function], Function]:
    """Register a function as the fault that replaces one of :class:`ExpertSteps`.

    The fault has the function's name, unless another is given.
    """

    def plant(wrong_step: Function) -> Function:
        steps = replace(RIGHT_EXPERTS, **{step: wrong_step})
        _register(name or wrong_step.__name__, summary, stands_for, bug_class, steps.fused_experts)
        return wrong_step

    return plant


def call_fault(
    summary: str, *, bug_class: str, stands_for: tuple[str, ...] = ()
) -> Callable[[Callable[[Call], Tensor]], Callable[[Call], Tensor]]:
    """Register a function of the whole call as a fault, for bugs around right steps."""

    def plant(wrong: Callable[[Call], Tensor]) -> Callable[[Call], Tensor]:
        def fused_experts(*arguments: Tensor) -> Tensor:
            return wrong(Call(*arguments))

        _register(wrong.__name__, summary, stands_for, bug_class, fused_experts)
        return wrong

    return plant


def _register(
    name: str, summary: str, stands_for: tuple[str, ...], bug_class: str, function: Function
) -> None:
    if name in FAULTS:
        raise ValueError(f"fault {name!r} is registered twice")
    implementation = Implementation(f"fault:{name}", function, capabilities=CLAIMS)
    FAULTS[name] = Fault(name, summary, stands_for, bug_class, "experts", implementation)
