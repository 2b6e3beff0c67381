"""The public functions as operators of torch: `torch.ops.moe_dispatch.fused_experts` and so on.

Importing moe_dispatch registers them. While `torch.compile` or `torch.export` traces,
`moe_dispatch.fused_experts`, `route` and `fused_moe` put the operators into the graph, one node
each, so that nobody needs to call them by name. They write none of their arguments and return no
view of one; there is no backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from .. import eager
from ..routing_options import RoutingOptions
from ..validation import (
    check_experts_arguments,
    check_logits,
    check_moe_arguments,
    check_routing_options,
)

NAMESPACE = __name__.removesuffix(".integrations.torch_ops").replace(".", "_")
"""Of the operators. A copy of the package under another name has its own."""

_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")


_Function = TypeVar("_Function", bound=Callable[..., Any])


def _operator(name: str, function: _Function, *, fake: Callable[..., Any]) -> _Function:
    """`function` as an operator.

    fake: for tensors without storage, which compilers trace with: raises the errors that shapes
    and dtypes call for, and returns empty results.

    `torch.library.custom_op` makes operators of twice the host time and more: it adds a backward
    pass that raises an error, where `function` already raises one in the forward pass.
    """
    schema = torch.library.infer_schema(function, mutates_args=(), op_name=name)
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)
    return cast(_Function, getattr(getattr(torch.ops, NAMESPACE), name).default)


def _fake_fused_experts(
    hidden_states: torch.Tensor, *other_tensors: torch.Tensor, **_: bool
) -> torch.Tensor:
    check_experts_arguments(hidden_states, *other_tensors)
    return hidden_states.new_empty(hidden_states.shape)


def _options(
    top_k: int,
    *,
    scoring: str = "softmax",
    renormalize: bool = True,
    num_groups: int = 1,
    topk_groups: int | None = None,
) -> RoutingOptions:
    """What shapes and errors depend on.

    The scaling factor may be a symbol to the compiler, and may stay one. It may not know the
    integers' values yet either; kernels are compiled for them: int asks.
    """
    return RoutingOptions(
        int(top_k),
        scoring=scoring,
        renormalize=renormalize,
        num_groups=int(num_groups),
        topk_groups=None if topk_groups is None else int(topk_groups),
        scaling_factor=1.0,
    )


def _fake_route(
    router_logits: torch.Tensor,
    top_k: int,
    *,
    correction_bias: torch.Tensor | None = None,
    scaling_factor: float = 1.0,
    **rest: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    check_logits(router_logits)
    num_tokens, num_experts = router_logits.shape
    options = _options(top_k, **rest)
    check_routing_options(
        options, correction_bias, num_experts=num_experts, device=router_logits.device
    )
    shape = (num_tokens, options.top_k)
    return (
        router_logits.new_empty(shape, dtype=torch.int32),
        router_logits.new_empty(shape, dtype=torch.float32),
    )


def _fake_fused_moe(
    hidden_states: torch.Tensor,
    router_weight: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    top_k: int,
    *,
    correction_bias: torch.Tensor | None = None,
    scaling_factor: float = 1.0,
    allow_tf32: bool = False,
    batch_invariant: bool = False,
    **rest: Any,
) -> torch.Tensor:
    options = _options(top_k, **rest)
    check_moe_arguments(
        hidden_states, router_weight, gate_up_proj, down_proj, correction_bias, options
    )
    return hidden_states.new_empty(hidden_states.shape)


fused_experts = _operator("fused_experts", eager.fused_experts, fake=_fake_fused_experts)
route = _operator("route", eager.route, fake=_fake_route)
fused_moe = _operator("fused_moe", eager.fused_moe, fake=_fake_fused_moe)
