"""The sizes of one MoE layer call."""

from __future__ import annotations

import re
from dataclasses import dataclass

from moeproof.number_format import STORAGE_FORMATS, NumberFormat, number_format

_PATTERN = re.compile(r"T(\d+)-H(\d+)-I(\d+)-E(\d+)-K(\d+)-(\w+)")


@dataclass(frozen=True, order=True)
class Problem:
    """Sizes and storage format of one call of the experts.

    Attributes:
        num_tokens: T, may be 0.
        hidden_size: H, columns of ``hidden_states`` and of the output.
        intermediate_size: I, rows of the gate and of the up projection of one expert.
        num_experts: E.
        top_k: K, slots per token.
        dtype: "bf16", "fp16" or "fp32": storage of activations and weights.
    """

    num_tokens: int
    hidden_size: int
    intermediate_size: int
    num_experts: int
    top_k: int
    dtype: str

    def __post_init__(self) -> None:
        if self.num_tokens < 0:
            raise ValueError(f"num_tokens must be at least 0, got {self.num_tokens}")
        for name in ("hidden_size", "intermediate_size", "num_experts", "top_k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.dtype not in STORAGE_FORMATS:
            allowed = ", ".join(STORAGE_FORMATS)
            raise ValueError(f"dtype must be one of {allowed}, got {self.dtype!r}")

    @property
    def format(self) -> NumberFormat:
        """The storage format's parameters."""
        return number_format(self.dtype)

    @property
    def name(self) -> str:
        """``T33-H64-I96-E8-K2-bf16``: a printable name, read back by :meth:`parse`."""
        return (
            f"T{self.num_tokens}-H{self.hidden_size}-I{self.intermediate_size}"
            f"-E{self.num_experts}-K{self.top_k}-{self.dtype}"
        )

    @classmethod
    def parse(cls, name: str) -> Problem:
        """The problem with this :attr:`name`. Raises ValueError for any other text."""
        match = _PATTERN.fullmatch(name)
        if match is None:
            raise ValueError(f"problem {name!r} must look like T33-H64-I96-E8-K2-bf16")
        tokens, hidden, intermediate, experts, top_k = (int(group) for group in match.groups()[:5])
        return cls(tokens, hidden, intermediate, experts, top_k, match.group(6))
