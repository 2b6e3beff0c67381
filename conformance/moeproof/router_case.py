"""One test of the router: sizes, scoring rules, a logit family and a seed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from moeproof.number_format import STORAGE_FORMATS

_PATTERN = re.compile(
    r"route-T(?P<tokens>\d+)-E(?P<experts>\d+)-K(?P<top_k>\d+)-(?P<scoring>softmax|sigmoid)"
    r"(?P<renormalize>-renormalized)?(?P<bias>-bias)?"
    r"(?:-G(?P<groups>\d+)x(?P<kept>\d+))?(?:-scale(?P<scale>[0-9.]+))?-(?P<dtype>\w+)"
)


class LogitFamily(str, Enum):
    """How a router case's logits are made; ``inputs`` says it in full."""

    NORMAL = "normal"
    WIDE = "wide"
    VERY_NEGATIVE = "very_negative"
    SATURATED = "saturated"
    TIES = "ties"
    ALL_EQUAL = "all_equal"
    NEAR_TIES = "near_ties"
    HIGH_EXPERTS = "high_experts"
    NEGATIVE_INFINITY = "negative_infinity"
    NOT_A_NUMBER = "not_a_number"
    POSITIVE_INFINITY = "positive_infinity"


@dataclass(frozen=True, order=True)
class RouterProblem:
    """Sizes and rules of one call of ``route``.

    Attributes:
        num_tokens: T. num_experts: E. top_k: K.
        scoring: "softmax" or "sigmoid".
        renormalize: the chosen experts' weights are divided by their sum.
        has_bias: a correction bias (E,) is added to the scores for the choice alone.
        num_groups: groups of consecutive experts (1: no groups).
        topk_groups: groups that may be chosen from.
        scaling_factor: multiplies the weights at the end.
        dtype: storage of the logits.
    """

    num_tokens: int
    num_experts: int
    top_k: int
    scoring: str = "softmax"
    renormalize: bool = True
    has_bias: bool = False
    num_groups: int = 1
    topk_groups: int = 1
    scaling_factor: float = 1.0
    dtype: str = "fp32"

    def __post_init__(self) -> None:
        if self.scoring not in ("softmax", "sigmoid"):
            raise ValueError(f"scoring must be softmax or sigmoid, got {self.scoring!r}")
        if self.dtype not in STORAGE_FORMATS:
            raise ValueError(
                f"dtype must be one of {', '.join(STORAGE_FORMATS)}, got {self.dtype!r}"
            )
        if self.num_tokens < 0 or self.num_experts < 1:
            raise ValueError(f"num_tokens >= 0 and num_experts >= 1 are needed, got {self}")
        if self.num_groups < 1 or self.num_experts % self.num_groups:
            raise ValueError(
                f"num_groups must divide num_experts {self.num_experts}, got {self.num_groups}"
            )
        if not 1 <= self.topk_groups <= self.num_groups:
            raise ValueError(
                f"topk_groups must be in [1, {self.num_groups}], got {self.topk_groups}"
            )
        eligible = self.num_experts // self.num_groups * self.topk_groups
        if not 1 <= self.top_k <= eligible:
            raise ValueError(f"top_k must be in [1, {eligible}], got {self.top_k}")

    @property
    def rule(self) -> dict[str, Any]:
        """The options of ``route`` by which experts are chosen and weighed, but for K and bias."""
        return {
            "scoring": self.scoring,
            "renormalize": self.renormalize,
            "num_groups": self.num_groups,
            "topk_groups": self.topk_groups,
            "scaling_factor": self.scaling_factor,
        }

    @property
    def name(self) -> str:
        """``route-T5-E256-K8-sigmoid-renormalized-bias-G8x4-scale2.5-fp32``."""
        groups = f"-G{self.num_groups}x{self.topk_groups}" if self.num_groups > 1 else ""
        scale = f"-scale{self.scaling_factor:g}" if self.scaling_factor != 1.0 else ""
        return (
            f"route-T{self.num_tokens}-E{self.num_experts}-K{self.top_k}-{self.scoring}"
            + ("-renormalized" if self.renormalize else "")
            + ("-bias" if self.has_bias else "")
            + f"{groups}{scale}-{self.dtype}"
        )

    @classmethod
    def parse(cls, name: str) -> RouterProblem:
        """The router problem with this :attr:`name`. Raises ValueError for any other text."""
        match = _PATTERN.fullmatch(name)
        if match is None:
            raise ValueError(
                f"router problem {name!r} must look like "
                "route-T5-E256-K8-sigmoid-renormalized-bias-G8x4-scale2.5-fp32"
            )
        return cls(
            num_tokens=int(match["tokens"]),
            num_experts=int(match["experts"]),
            top_k=int(match["top_k"]),
            scoring=match["scoring"],
            renormalize=match["renormalize"] is not None,
            has_bias=match["bias"] is not None,
            num_groups=int(match["groups"] or 1),
            topk_groups=int(match["kept"] or 1),
            scaling_factor=float(match["scale"] or 1.0),
            dtype=match["dtype"],
        )


@dataclass(frozen=True, order=True)
class RouterCase:
    """One test of ``route``: a router problem, a logit family and a seed."""

    problem: RouterProblem
    logits: LogitFamily = LogitFamily.NORMAL
    seed: int = field(default=0)

    @property
    def case_id(self) -> str:
        """``route-T5-E8-K2-softmax-renormalized-fp32/ties/0``: rebuilds the case anywhere."""
        return f"{self.problem.name}/{self.logits.value}/{self.seed}"

    @classmethod
    def parse(cls, case_id: str) -> RouterCase:
        """The router case with this :attr:`case_id`. Raises ValueError for any other text."""
        parts = case_id.split("/")
        allowed = [family.value for family in LogitFamily]
        if len(parts) != 3 or not parts[2].isdecimal():
            raise ValueError(
                f"router case id {case_id!r} must look like PROBLEM/LOGITS/SEED, for example "
                "route-T5-E8-K2-softmax-renormalized-fp32/ties/0"
            )
        if parts[1] not in allowed:
            raise ValueError(f"logit family {parts[1]!r} is unknown; allowed: {', '.join(allowed)}")
        return cls(RouterProblem.parse(parts[0]), LogitFamily(parts[1]), int(parts[2]))
