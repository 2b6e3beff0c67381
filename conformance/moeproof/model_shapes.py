"""The MoE layers of real models: their true sizes and routing rules, from ``fixtures/models``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from moeproof.fixture_files import fixtures_directory
from moeproof.number_format import STORAGE_FORMATS
from moeproof.problem import Problem
from moeproof.router_case import RouterCase, RouterProblem


@dataclass(frozen=True)
class ScaledSize:
    """Sizes that a CPU can compute with, in about the model's ratio and multiples of no tile.

    Attributes:
        hidden_size: H. intermediate_size: I.
    """

    hidden_size: int
    intermediate_size: int


@dataclass(frozen=True)
class ModelShape:
    """One file of ``fixtures/models``: the MoE layer of a model.

    Attributes:
        name: the file's name without its ending.
        source: where the figures are from.
        hidden_size: H. intermediate_size: I of one routed expert. num_experts: E. top_k: K.
        dtype: what activations and weights are served in.
        scoring, renormalize, num_groups, topk_groups, scaling_factor: the router's rules, as in
            :class:`moeproof.router_case.RouterProblem`.
        correction_bias: the router adds a bias to the scores for the choice alone.
        shared_intermediate_size: I of the shared experts together, which are no part of
            ``fused_experts``; 0 if there are none.
        caveats: how the model's layer differs from what the sizes alone say.
        scaled: smaller sizes for the CPU; E, K and the router's rules stay.
    """

    name: str
    source: str
    hidden_size: int
    intermediate_size: int
    num_experts: int
    top_k: int
    dtype: str
    scoring: str
    renormalize: bool
    correction_bias: bool
    num_groups: int
    topk_groups: int
    scaling_factor: float
    shared_intermediate_size: int
    caveats: tuple[str, ...]
    scaled: ScaledSize

    def problem(self, num_tokens: int, *, dtype: str | None = None) -> Problem:
        """The experts of this layer on T tokens, in the model's dtype unless another is given."""
        return Problem(
            num_tokens,
            self.hidden_size,
            self.intermediate_size,
            self.num_experts,
            self.top_k,
            dtype or self.dtype,
        )

    def scaled_problem(self, num_tokens: int, *, dtype: str | None = None) -> Problem:
        """As :meth:`problem`, with the scaled H and I."""
        return Problem(
            num_tokens,
            self.scaled.hidden_size,
            self.scaled.intermediate_size,
            self.num_experts,
            self.top_k,
            dtype or self.dtype,
        )

    def router_problem(self, num_tokens: int) -> RouterProblem:
        """The router of this layer on T tokens; its logits are float32, as models compute them."""
        return RouterProblem(
            num_tokens,
            self.num_experts,
            self.top_k,
            scoring=self.scoring,
            renormalize=self.renormalize,
            has_bias=self.correction_bias,
            num_groups=self.num_groups,
            topk_groups=self.topk_groups,
            scaling_factor=self.scaling_factor,
        )

    def router_case(self, num_tokens: int) -> RouterCase:
        """The case of :meth:`router_problem` with ordinary logits."""
        return RouterCase(self.router_problem(num_tokens))


_SIZE = {"type": "integer", "minimum": 1}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "source": {"type": "string", "minLength": 1},
        "hidden_size": _SIZE,
        "intermediate_size": _SIZE,
        "num_experts": _SIZE,
        "top_k": _SIZE,
        "dtype": {"enum": list(STORAGE_FORMATS)},
        "scoring": {"enum": ["softmax", "sigmoid"]},
        "renormalize": {"type": "boolean"},
        "correction_bias": {"type": "boolean"},
        "num_groups": _SIZE,
        "topk_groups": _SIZE,
        "scaling_factor": {"type": "number", "exclusiveMinimum": 0},
        "shared_intermediate_size": {"type": "integer", "minimum": 0},
        "caveats": {"type": "array", "items": {"type": "string"}},
        "scaled": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"hidden_size": _SIZE, "intermediate_size": _SIZE},
            "required": ["hidden_size", "intermediate_size"],
        },
    },
}
_SCHEMA["required"] = list(_SCHEMA["properties"])


@cache
def model_shapes() -> dict[str, ModelShape]:
    """Every model's shape by name, in alphabetical order."""
    paths = sorted((fixtures_directory() / "models").glob("*.json"))
    return {path.stem: read_model_shape(path) for path in paths}


def read_model_shape(path: Path) -> ModelShape:
    """The shape in one file.

    Raises:
        ValueError: a field is missing, unknown, of a wrong type or out of range; the message names
            the file and the field.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    error = best_match(Draft202012Validator(_SCHEMA).iter_errors(content))
    if error is not None:
        raise ValueError(f"{path.name}: {error.json_path.removeprefix('$.')}: {error.message}")
    scaled = ScaledSize(**content.pop("scaled"))
    caveats = tuple(content.pop("caveats"))
    shape = ModelShape(name=path.stem, scaled=scaled, caveats=caveats, **content)
    try:
        shape.router_problem(num_tokens=1)
    except ValueError as misfit:
        raise ValueError(f"{path.name}: {misfit}") from misfit
    return shape
