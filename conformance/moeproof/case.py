"""One test of the experts: a problem, a routing pattern, a value family, a layout and a seed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from moeproof.problem import Problem
from moeproof.routing_pattern import find_pattern


class ValueFamily(str, Enum):
    """How a case's values are made; ``inputs`` says it in full."""

    RANDOM = "random"
    PER_EXPERT = "per_expert"
    CANCELLING = "cancelling"
    HUGE = "huge"
    TINY = "tiny"
    SUBNORMAL = "subnormal"
    SILU_SWEEP = "silu_sweep"
    EXACT_UP = "exact_up"
    EXACT_GATE = "exact_gate"
    EXACT_DOWN = "exact_down"
    EXACT_ROUNDED = "exact_rounded"
    EXACT_OPERANDS = "exact_operands"

    @property
    def is_exact(self) -> bool:
        """Every rounding before the output's is exact in a right implementation."""
        return self.value.startswith("exact")

    @property
    def rounds_once(self) -> bool:
        """Whatever points an implementation rounds at, no value is rounded twice."""
        return self.is_exact or self is ValueFamily.SILU_SWEEP

    @property
    def has_independent_signs(self) -> bool:
        """Products have independent random signs, so the probabilistic bound holds."""
        return self in (ValueFamily.RANDOM, ValueFamily.PER_EXPERT)


class Layout(str, Enum):
    """How a case's tensors lie in memory; ``layout`` says it in full."""

    CONTIGUOUS = "contiguous"
    OFFSET = "offset"
    ROW_PADDED = "row_padded"
    TRANSPOSED = "transposed"
    FAR_APART = "far_apart"


class UnwrittenMemory(str, Enum):
    """What memory holds before it is first written; ``poison`` says it in full."""

    NAN = "nan"
    ONES = "ones"


@dataclass(frozen=True, order=True)
class Case:
    """One test of ``fused_experts``.

    Attributes:
        problem: the sizes and the storage format.
        pattern: a routing pattern's ``name`` or ``name:argument``.
        values: the value family.
        layout: the memory layout of the tensors that the implementation is given.
        seed: picks the random numbers.
        unwritten: what the implementation finds in memory that it allocates, in the memory check.
    """

    problem: Problem
    pattern: str
    values: ValueFamily = ValueFamily.RANDOM
    layout: Layout = Layout.CONTIGUOUS
    seed: int = 0
    unwritten: UnwrittenMemory = UnwrittenMemory.NAN

    def __post_init__(self) -> None:
        pattern, argument = find_pattern(self.pattern)
        misfit = pattern.misfit(self.problem, argument)
        if misfit is not None:
            raise ValueError(f"pattern {self.pattern!r} does not fit {self.problem.name}: {misfit}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")

    @property
    def case_id(self) -> str:
        """``T33-H64-I96-E8-K2-bf16/zipf/random/contiguous/7``: rebuilds the case anywhere.

        A sixth part, such as ``/ones``, names what unwritten memory holds if that is not NaN.
        """
        parts = (self.problem.name, self.pattern, self.values.value, self.layout.value)
        plain = "/".join((*parts, str(self.seed)))
        unwritten = self.unwritten
        return plain if unwritten is UnwrittenMemory.NAN else f"{plain}/{unwritten.value}"

    @classmethod
    def parse(cls, case_id: str) -> Case:
        """The case with this :attr:`case_id`.

        Raises:
            ValueError: the text is not a case id; the message says which part is wrong.
        """
        parts = case_id.split("/")
        if len(parts) not in (5, 6) or not parts[4].isdecimal():
            raise ValueError(
                f"case id {case_id!r} must look like PROBLEM/PATTERN/VALUES/LAYOUT/SEED, for "
                "example T33-H64-I96-E8-K2-bf16/zipf/random/contiguous/7, with /ones behind it "
                "or nothing"
            )
        problem, pattern, values, layout, seed = parts[:5]
        unwritten = parts[5] if len(parts) == 6 else UnwrittenMemory.NAN.value
        return cls(
            Problem.parse(problem),
            pattern,
            _member(ValueFamily, "value family", values),
            _member(Layout, "layout", layout),
            int(seed),
            _member(UnwrittenMemory, "unwritten memory", unwritten),
        )


def _member(enumeration: type[Enum], kind: str, value: str):  # type: ignore[no-untyped-def]
    """The member with this value, or a ValueError that lists what is allowed."""
    allowed = [member.value for member in enumeration]
    if value not in allowed:
        raise ValueError(f"{kind} {value!r} is unknown; allowed: {', '.join(allowed)}")
    return enumeration(value)
