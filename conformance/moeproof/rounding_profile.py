"""What an implementation declares about where and how it rounds."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Literal, get_args, get_type_hints

Rounding = Literal["no", "maybe", "yes"]
WeightsApplied = Literal["before", "after", "between", "intermediate"]
AccumulatorClass = Literal["default", "mma", "fma"]


@dataclass(frozen=True)
class RoundingProfile:
    """The points of the computation at which values are rounded to the storage format.

    A rounding point is "yes" (always rounded, to nearest even), "no" (kept in float32) or "maybe"
    (not declared: the bound allows for one rounding). For fp32 storage the four points mean
    nothing, since every intermediate value is a float32 already.

    Attributes:
        gate_up: the results of the gate and of the up projection.
        silu: SiLU of the gate.
        intermediate: SiLU(gate) * up, the left operand of the down projection.
        expert_output: one expert's output of one token, with or without its routing weight.
        weights_applied: where ``expert_output`` is "yes": "before" it is rounded, "after", or
            "between" two roundings. "intermediate": to SiLU(gate) * up instead, before that is
            rounded.
        combine_in_output_dtype: the sum over the top-k slots is kept in the storage format and
            rounded after every addition.
        weights_in_storage_dtype: the routing weights are rounded to the storage format first.
        accumulator: class of the matrix products' accumulators: "mma" (fused dot products of
            matrix units, which may truncate), "fma" (IEEE float32), or "default": mma for 16-bit
            storage, fma for fp32.
        tf32: operands of the matrix products may be cut to tf32 (fp32 storage).
        flushes_subnormals: subnormal operands of the matrix products may be taken as zero.
    """

    gate_up: Rounding = "maybe"
    silu: Rounding = "maybe"
    intermediate: Rounding = "maybe"
    expert_output: Rounding = "maybe"
    weights_applied: WeightsApplied = "before"
    combine_in_output_dtype: bool = False
    weights_in_storage_dtype: bool = False
    accumulator: AccumulatorClass = "default"
    tf32: bool = False
    flushes_subnormals: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _allowed_values().items():
            value = getattr(self, name)
            if value not in allowed or type(value) is not type(allowed[0]):
                raise ValueError(f"profile's {name} must be one of {allowed}, got {value!r}")

    @property
    def name(self) -> str:
        """``intermediate=yes,tf32=true``: what differs from the default; read by :meth:`parse`."""
        differing = [
            f"{field.name}={_to_text(getattr(self, field.name))}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return ",".join(differing) or "undeclared"

    @property
    def looseness(self) -> tuple[bool, int]:
        """Sorts profiles: tight and plain ones come first.

        A sum in the storage format has a wide interval. Of other profiles the one with the fewest
        roundings comes first.
        """
        points = (self.gate_up, self.silu, self.intermediate, self.expert_output)
        between = self.weights_applied == "between"
        roundings = points.count("yes") + between + self.weights_in_storage_dtype
        return self.combine_in_output_dtype, roundings

    @classmethod
    def parse(cls, name: str) -> RoundingProfile:
        """The profile with this :attr:`name`. Raises ValueError for any other text."""
        if name == "undeclared":
            return cls()
        known = {field.name for field in fields(cls)}
        declared: dict[str, str | bool] = {}
        for item in name.split(","):
            key, separator, value = item.partition("=")
            if not separator or key not in known or key in declared:
                raise ValueError(
                    f"profile {name!r}: {item!r} must be KEY=VALUE with each KEY once, out of "
                    f"{', '.join(sorted(known))}"
                )
            declared[key] = {"true": True, "false": False}.get(value, value)
        return cls(**declared)  # type: ignore[arg-type]  # __post_init__ checks the values

    def to_json(self) -> str:
        """All attributes as one JSON object; ``RoundingProfile(**json.loads(text))`` reads it."""
        return json.dumps(asdict(self))


@cache
def _allowed_values() -> dict[str, tuple[str | bool, ...]]:
    """The values that each field may have."""
    hints = get_type_hints(RoundingProfile)
    return {name: (False, True) if hint is bool else get_args(hint) for name, hint in hints.items()}


UNDECLARED = RoundingProfile()
"""Nothing is known: one rounding is allowed for at every point."""


def candidate_profiles() -> tuple[RoundingProfile, ...]:
    """The profiles with every rounding point declared, to find those that fit an output.

    Neighbours have their first steps in common. A running sum in the storage format rounds each
    term, so it is not combined with roundings of the terms themselves.
    """
    points: tuple[Rounding, ...] = ("no", "yes")
    candidates = itertools.product(points, points, points, _OUTPUTS, (False, True))
    return tuple(
        RoundingProfile(
            gate_up,
            silu,
            intermediate,
            expert_output,
            weights_applied,
            combine_in_output_dtype=in_output_dtype,
            weights_in_storage_dtype=weights_in_storage,
        )
        for gate_up, silu, intermediate, output, weights_in_storage in candidates
        for expert_output, weights_applied, in_output_dtype in [output]
    )


# expert_output, weights_applied, combine_in_output_dtype
_OUTPUTS: tuple[tuple[Rounding, WeightsApplied, bool], ...] = (
    ("no", "before", False),
    ("no", "before", True),
    ("yes", "before", False),
    ("yes", "after", False),
    ("yes", "after", True),
    ("yes", "between", False),
    ("no", "intermediate", False),
    ("no", "intermediate", True),
    ("yes", "intermediate", False),
)


def _to_text(value: str | bool) -> str:
    return str(value).lower()
