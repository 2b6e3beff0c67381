"""The experts of Hugging Face transformers, called as a Mixtral model calls them.

``eager`` is the model's own loop; ``batched_mm`` and ``grouped_mm`` are what
``model.set_experts_implementation`` switches to. deepgemm and sonicmoe are fetched from a model
hub at the first call and have no adapter here.
"""

from __future__ import annotations

from functools import cache, partial

import torch

from moeproof.case import Case, Layout
from moeproof.case_id import AnyCase
from moeproof.implementation import Capabilities, Implementation

try:
    import transformers
    from transformers.integrations import moe as _switchable_experts  # noqa: F401
    from transformers.models.mixtral.modeling_mixtral import MixtralExperts
except ImportError as error:
    raise ImportError(f"transformers >= 5.0 is needed: {error}") from error

_STRIDE_BYTES = 16
_MAX_GROUPS = 1024


@cache
def _experts(
    name: str, num_experts: int, hidden_size: int, intermediate_size: int
) -> torch.nn.Module:
    """The experts of a Mixtral layer of these sizes, without weights.

    They are set up as one rank of an expert-parallel group, for only then may an id be
    ``num_experts``, which marks a slot whose expert lies elsewhere.
    """
    config = transformers.MixtralConfig(
        num_local_experts=num_experts,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
    )
    config._experts_implementation = name
    with torch.device("meta"):
        experts: torch.nn.Module = MixtralExperts(config)
    experts._is_expert_parallel = True  # type: ignore[assignment]
    return experts


def _fused_experts(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    *,
    name: str,
) -> torch.Tensor:
    """(T, H) from a Mixtral layer's experts with these weights.

    transformers has one id for "not on this rank", ``num_experts``, with a routing weight of zero.
    """
    num_experts, hidden_size, intermediate_size = down_proj.shape
    masked = (topk_ids < 0) | (topk_ids >= num_experts)
    output = torch.func.functional_call(
        _experts(name, num_experts, hidden_size, intermediate_size),
        {"gate_up_proj": gate_up_proj, "down_proj": down_proj},
        (
            hidden_states,
            topk_ids.long().masked_fill(masked, num_experts),
            topk_weights.masked_fill(masked, 0.0),
        ),
    )
    assert isinstance(output, torch.Tensor)
    return output


def _grouped_mm_unsupported(case: AnyCase) -> str | None:
    """The limits of torch's grouped_mm: strides of 16 bytes; on CUDA at most 1024 groups."""
    if not isinstance(case, Case):
        return None
    problem = case.problem
    if problem.num_experts > _MAX_GROUPS:
        return f"{problem.num_experts} groups are more than {_MAX_GROUPS}"
    for name, size in (("H", problem.hidden_size), ("I", problem.intermediate_size)):
        if size * problem.format.numpy_dtype.itemsize % _STRIDE_BYTES:
            return f"rows of {name} = {size} elements are no multiple of {_STRIDE_BYTES} bytes"
    return None


def _implementation(name: str, capabilities: Capabilities) -> Implementation:
    return Implementation(
        name=f"transformers_{name}",
        fused_experts=partial(_fused_experts, name=name),
        capabilities=capabilities,
        version=transformers.__version__,
    )


# eager adds with index_add_, which transformers itself calls non-deterministic on CUDA.
eager = _implementation(
    "eager",
    Capabilities(layouts=frozenset(Layout), masked_ids=True),
)
batched_mm = _implementation(
    "batched_mm",
    Capabilities(
        layouts=frozenset(Layout),
        masked_ids=True,
        deterministic=True,
        graph_capture=True,
    ),
)
# Capture works in bf16 alone: torch 2.11 copies the offsets of other dtypes to the CPU.
grouped_mm = _implementation(
    "grouped_mm",
    Capabilities(
        # On CUDA grouped_mm refuses a start that is not aligned to 16 bytes.
        layouts=frozenset({Layout.CONTIGUOUS, Layout.TRANSPOSED}),
        masked_ids=True,
        deterministic=True,
        unsupported=_grouped_mm_unsupported,
    ),
)
