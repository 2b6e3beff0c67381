"""moe_dispatch inside torch.compile and torch.export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.library import opcheck

from moe_dispatch import FusedMoE, fused_experts, fused_moe, route
from moe_dispatch.integrations import torch_ops

BACKENDS = ("eager", "aot_eager", "inductor")
GROUPED = {
    "scoring": "sigmoid",
    "num_groups": 4,
    "topk_groups": 2,
    "scaling_factor": 2.5,
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch.compiler.reset()


def test_opcheck_of_fused_experts(make_experts: Callable[..., Any]) -> None:
    for dtype, flags in ((torch.float32, {}), (torch.bfloat16, {"batch_invariant": True})):
        opcheck(torch_ops.fused_experts, make_experts(5, 24, 16, 4, 2, dtype).arguments, flags)
    strided = [tensor.mT.contiguous().mT for tensor in make_experts(3, 24, 16, 4, 2).arguments]
    opcheck(torch_ops.fused_experts, tuple(strided))


def test_opcheck_of_route(device: torch.device) -> None:
    logits = torch.randn(5, 8, device=device)
    opcheck(torch_ops.route, (logits, 3))
    bias = torch.randn(8, device=device)
    opcheck(torch_ops.route, (logits, 3), GROUPED | {"correction_bias": bias})


def test_opcheck_of_fused_moe(make_experts: Callable[..., Any], device: torch.device) -> None:
    hidden_states, gate_up_proj, down_proj, *_ = make_experts(5, 24, 16, 8, 2).arguments
    router_weight = torch.randn(8, 24, device=device)
    arguments = (hidden_states, router_weight, gate_up_proj, down_proj, 2)
    opcheck(torch_ops.fused_moe, arguments)
    opcheck(torch_ops.fused_moe, arguments, GROUPED)


@pytest.mark.parametrize("backend", BACKENDS)
def test_functions_compile(
    make_experts: Callable[..., Any], device: torch.device, backend: str
) -> None:
    hidden_states, gate_up_proj, down_proj, *_ = make_experts(5, 24, 16, 8, 2).arguments
    router_weight = torch.randn(8, 24, device=device)
    bias = torch.randn(8, device=device)

    def two_layers(x: torch.Tensor) -> torch.Tensor:
        ids, weights = route(x @ router_weight.T, 2, correction_bias=bias, **GROUPED)
        x = x + fused_experts(x, gate_up_proj, down_proj, ids, weights)
        moe = fused_moe(x, router_weight, gate_up_proj, down_proj, 2, batch_invariant=True)
        return (x + moe).relu()

    compiled = torch.compile(two_layers, fullgraph=True, backend=backend)
    expected = two_layers(hidden_states)
    # Inductor may contract a product and a sum.
    torch.testing.assert_close(compiled(hidden_states), expected, rtol=2**-20, atol=2**-20)


def test_a_compiled_layer_keeps_its_bits(device: torch.device) -> None:
    torch.manual_seed(0)
    layer = FusedMoE(
        num_experts=8, hidden_size=24, intermediate_size=16, top_k=2, device=device, **GROUPED
    )
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 24, device=device)
    assert torch.equal(compiled(x), layer(x))


def test_one_graph_for_every_batch_size(make_experts: Callable[..., Any]) -> None:
    graphs = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(fused_experts, fullgraph=True, dynamic=True, backend=graphs)
    for num_tokens in (5, 2, 9, 33):
        arguments = make_experts(num_tokens, 24, 16, 4, 2).arguments
        assert torch.equal(compiled(*arguments), fused_experts(*arguments))
    assert graphs.frame_count == 1


def test_an_open_top_k_is_asked_for(device: torch.device) -> None:
    logits = torch.randn(4, 8, device=device)
    compiled = torch.compile(route, fullgraph=True, dynamic=True, backend="aot_eager")
    for top_k, factor in ((2, 1.0), (3, 1.5), (5, 2.5)):
        actual = compiled(logits, top_k, scaling_factor=factor)
        for got, expected in zip(actual, route(logits, top_k, scaling_factor=factor), strict=True):
            assert torch.equal(got, expected)


def test_export_holds_one_operator(device: torch.device) -> None:
    layer = FusedMoE(num_experts=4, hidden_size=24, intermediate_size=16, top_k=2, device=device)
    x = torch.randn(3, 24, device=device)
    tokens = {0: torch.export.Dim("tokens", min=2, max=64)}
    program = torch.export.export(layer, (x,), dynamic_shapes=(tokens,))
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert calls.count(torch_ops.fused_moe) == 1
    more = torch.randn(7, 24, device=device)
    assert torch.equal(program.module()(more), layer(more))


def test_wrong_arguments_are_named_while_compiling(make_experts: Callable[..., Any]) -> None:
    experts = make_experts(5, 24, 16, 4, 2)
    compiled = torch.compile(fused_experts, fullgraph=True, backend="eager")
    hidden_states, gate_up_proj, *rest = experts.arguments
    with pytest.raises(Exception, match=r"gate_up_proj must have shape \(E, 2I, H\)"):
        compiled(hidden_states, gate_up_proj[..., :-1], *rest)
    route_compiled = torch.compile(route, fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="top_k must lie between 1 and 8"):
        route_compiled(hidden_states[:, :8], 9)


def test_a_gradient_is_refused_while_compiling(make_experts: Callable[..., Any]) -> None:
    hidden_states, *rest = make_experts(5, 24, 16, 4, 2).arguments
    hidden_states.requires_grad_()
    compiled = torch.compile(fused_experts, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="hidden_states requires a gradient"):
        compiled(hidden_states, *rest)
    with torch.no_grad():
        assert torch.equal(compiled(hidden_states, *rest), fused_experts(hidden_states, *rest))


def test_operators_check_at_run_time(make_experts: Callable[..., Any]) -> None:
    hidden_states, gate_up_proj, *rest = make_experts(5, 24, 16, 4, 2).arguments
    with pytest.raises(ValueError, match="down_proj must have shape"):
        torch.ops.moe_dispatch.fused_experts(hidden_states, gate_up_proj[:, :-2], *rest)
    with pytest.raises(ValueError, match="scoring must be one of"):
        torch.ops.moe_dispatch.route(hidden_states, 2, scoring="relu")
