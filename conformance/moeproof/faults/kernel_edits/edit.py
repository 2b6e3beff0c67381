"""Kernel faults: the kernels of ``moe_dispatch`` with one edit each, applied when loaded."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

from moeproof.checks.check import ALL_DEVICES
from moeproof.faults.fault import Entry, Fault, reference_of, register
from moeproof.faults.kernel_edits.edited_package import EditError, SourceEdit, load_edited
from moeproof.implementation import Implementation, load_implementation

PACKAGE = "moe_dispatch"
"""The package whose kernels are edited; its adapter has the same name."""

UNEDITED = Fault(
    "no_edit",
    "nothing: the kernels as they are",
    (),
    "none",
    "right",
    "fused_experts",
    partial(load_implementation, PACKAGE),
)
"""What every check must pass that catches an edited kernel."""

KERNEL_EDITS: dict[str, SourceEdit] = {}
"""The edit of each kernel fault, by the fault's name."""


def kernel_fault(
    name: str,
    summary: str,
    *,
    module: str,
    find: str,
    replacement: str,
    bug_class: str,
    stands_for: tuple[str, ...] = (),
    entry: Entry = "fused_experts",
    devices: frozenset[str] = ALL_DEVICES,
) -> None:
    """Register an edit of one of the package's modules as a fault.

    Args:
        name, summary, bug_class, stands_for, entry, devices: as in :class:`Fault`.
        module, find, replacement: as in :class:`SourceEdit`.
    """
    edit = SourceEdit(module, find, replacement)
    KERNEL_EDITS[name] = edit
    register(
        Fault(
            name,
            summary,
            stands_for,
            bug_class,
            "kernel",
            entry,
            partial(_load, name, edit),
            devices,
        )
    )


@cache
def _load(name: str, edit: SourceEdit) -> Implementation:
    """The adapter's implementation and claims, with the edited kernels."""
    try:
        copy = load_edited(PACKAGE, edit, name=f"{PACKAGE}_with_{name}")
    except EditError as error:
        raise EditError(f"fault {name!r} cannot be planted: {error}") from error
    return replace(
        load_implementation(PACKAGE),
        name=reference_of(name),
        fused_experts=copy.fused_experts,
        route=copy.route,
    )
