"""The thing under test: two callables, what it claims, and how it is found by name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from moeproof.case import Layout
from moeproof.case_id import AnyCase
from moeproof.number_format import STORAGE_FORMATS
from moeproof.rounding_profile import RoundingProfile

ADAPTER_GROUP = "moeproof.adapters"


@dataclass(frozen=True)
class Capabilities:
    """What an implementation claims. What it does not claim is reported as UNSUPPORTED.

    The defaults are those of a plain function without a ``capabilities`` attribute.

    Attributes:
        dtypes: storage formats it takes.
        layouts: memory layouts it takes.
        masked_ids: ids outside [0, E) are allowed and contribute nothing.
        duplicate_ids: a token may name an expert twice; both slots count.
        empty_batch: T = 0 works.
        validates: wrong shapes, dtypes and devices raise an error that names the argument.
        deterministic: the same call gives the same bits.
        position_invariant: a token's bits do not depend on which row it is.
        batch_invariant: a token's bits do not depend on the other rows or their number.
        expert_invariant: a token's bits do not depend on the experts' numbering.
        graph_capture: calls can be captured in a CUDA or HIP graph and replayed.
        subnormals: subnormal operands are not flushed to zero.
        router_rules: of "softmax", "sigmoid", "raw" (not renormalised), "bias", "groups",
            "scale": what ``route`` can do.
        lowest_id_ties: equal logits are chosen in the order of their ids.
        rounding: dtype -> where and how values are rounded in it, as ``RoundingProfile`` says.
            Outputs are then held to that profile's narrower interval. For a 16-bit dtype that is
            left out the profile is inferred, and there must be one that fits all cases;
            ``RoundingProfile()`` declares that it differs from call to call.
        unsupported: a further limit: (case) -> reason, or None if the case is fine.

    Raises:
        ValueError: ``rounding`` names an unknown dtype.
    """

    dtypes: frozenset[str] = frozenset({"bf16", "fp16", "fp32"})
    layouts: frozenset[Layout] = frozenset({Layout.CONTIGUOUS, Layout.OFFSET})
    masked_ids: bool = False
    duplicate_ids: bool = True
    empty_batch: bool = True
    validates: bool = False
    deterministic: bool = False
    position_invariant: bool = False
    batch_invariant: bool = False
    expert_invariant: bool = False
    graph_capture: bool = False
    subnormals: bool = False
    router_rules: frozenset[str] = frozenset({"softmax"})
    lowest_id_ties: bool = False
    rounding: Mapping[str, RoundingProfile] = field(default_factory=dict, hash=False)
    unsupported: Callable[[AnyCase], str | None] = field(default=lambda case: None)

    def __post_init__(self) -> None:
        for dtype in self.rounding:
            if dtype not in STORAGE_FORMATS:
                allowed = ", ".join(STORAGE_FORMATS)
                raise ValueError(f"rounding: dtype {dtype!r} is unknown; allowed: {allowed}")


@dataclass(frozen=True)
class Implementation:
    """A fused MoE implementation.

    Attributes:
        name: as the report names it.
        fused_experts: (hidden_states (T, H), gate_up_proj (E, 2I, H), down_proj (E, H, I),
            topk_ids (T, K) int32, topk_weights (T, K) float32) -> (T, H), all on one device.
        route: (router_logits (T, E), top_k, *, scoring, renormalize, correction_bias, num_groups,
            topk_groups, scaling_factor) -> (topk_ids (T, K), topk_weights (T, K)), or None.
        capabilities: what it claims.
        version: of the library under test, if there is one.
        fused_moe: (hidden_states (T, H), router_weight (E, H), gate_up_proj, down_proj, top_k) ->
            (T, H), router and experts in one call, or None. Only ``moeproof targets`` calls it, to
            compile kernels that the other two do not launch.
    """

    name: str
    fused_experts: Callable[..., Any]
    route: Callable[..., Any] | None = None
    capabilities: Capabilities = Capabilities()
    version: str = ""
    fused_moe: Callable[..., Any] | None = None


class ImplementationError(ValueError):
    """An implementation could not be found, imported or called."""


def adapter_names() -> list[str]:
    """Names of the adapters installed, in alphabetical order."""
    return sorted({point.name for point in entry_points(group=ADAPTER_GROUP)})


def load_implementation(reference: str) -> Implementation:
    """The implementation that a reference names.

    Args:
        reference: an adapter's name, ``module:attribute`` or ``path/to/file.py:attribute``. The
            attribute is an :class:`Implementation`, a function with ``fused_experts``' signature,
            or an object with ``fused_experts`` and perhaps ``route`` and ``capabilities``.

    Raises:
        ImplementationError: nothing is there under that name; the message says what is allowed.
    """
    location, colon, attribute = reference.rpartition(":")
    if not colon:
        return _load_adapter(reference)
    module = _load_file(Path(location)) if location.endswith(".py") else _load_module(location)
    if not hasattr(module, attribute):
        raise ImplementationError(f"{location} has no attribute {attribute!r}")
    return as_implementation(getattr(module, attribute), name=reference)


def as_implementation(subject: Any, *, name: str) -> Implementation:
    """Wrap a function or an object with ``fused_experts`` as an implementation."""
    if isinstance(subject, Implementation):
        return subject
    capabilities = getattr(subject, "capabilities", Capabilities())
    if not isinstance(capabilities, Capabilities):
        raise ImplementationError(
            f"{name}: capabilities must be a moeproof.Capabilities, got {type(capabilities)}"
        )
    fused_experts = getattr(subject, "fused_experts", subject)
    if not callable(fused_experts):
        raise ImplementationError(
            f"{name} is of type {type(subject).__name__}; needed is a function with fused_experts' "
            "signature or an object that has one"
        )
    return Implementation(
        name=name,
        fused_experts=fused_experts,
        route=getattr(subject, "route", None),
        capabilities=capabilities,
        version=str(getattr(subject, "__version__", "")),
        fused_moe=getattr(subject, "fused_moe", None),
    )


def _load_adapter(name: str) -> Implementation:
    found = [point for point in entry_points(group=ADAPTER_GROUP) if point.name == name]
    if not found:
        raise ImplementationError(
            f"implementation {name!r} is unknown; allowed: an adapter "
            f"({', '.join(adapter_names())}), module:attribute or path/to/file.py:attribute"
        )
    try:
        return as_implementation(found[0].load(), name=name)
    except ImportError as error:
        raise ImplementationError(f"adapter {name!r} cannot be imported: {error}") from error


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImplementationError(f"module {name!r} cannot be imported: {error}") from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ImplementationError(f"file {path} does not exist")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise ImplementationError(f"file {path} is not a Python module")
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise ImplementationError(f"file {path} cannot be imported: {error!r}") from error
    return module
