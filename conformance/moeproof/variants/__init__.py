"""Right implementations that differ as engines do: whatever they claim, they must pass."""

from __future__ import annotations

from moeproof.variants import combining, products, rounding_points, routing
from moeproof.variants.variant import CLAIMS, VARIANTS, Variant

__all__ = ["CLAIMS", "VARIANTS", "Variant", "combining", "products", "rounding_points", "routing"]
