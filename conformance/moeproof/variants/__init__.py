"""Right implementations that differ as engines do: whatever they claim, they must pass."""

from __future__ import annotations

from typing import Any

from moeproof.variants import combining, products, rounding_points, routing
from moeproof.variants.variant import CLAIMS, VARIANTS, Variant

__all__ = ["CLAIMS", "VARIANTS", "Variant", "combining", "products", "rounding_points", "routing"]


def __getattr__(name: str) -> Any:
    """``moeproof.variants:tree`` names a variant's implementation, as on the command line.

    ``moeproof.variants:declared_tree`` is the same with its rounding profile declared.
    """
    if name in VARIANTS:
        return VARIANTS[name].implementation
    if name.removeprefix("declared_") in VARIANTS:
        return VARIANTS[name.removeprefix("declared_")].declared
    raise AttributeError(f"module {__name__!r} has no attribute or variant {name!r}")
