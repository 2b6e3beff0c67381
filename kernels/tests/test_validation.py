"""Every argument that cannot be right is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from moe_dispatch import fused_experts, fused_moe, route

T, H, I, E, K = 4, 8, 6, 5, 2  # noqa: E741


def refused(error: type[Exception], message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("hidden_states", [[1.0]], TypeError, "torch.Tensor .*list"),
        ("hidden_states", torch.zeros(T, H, dtype=torch.float64), TypeError, "float64"),
        ("hidden_states", torch.zeros(T, H, 1), ValueError, r"\(T, H\).*\(4, 8, 1\)"),
        ("hidden_states", torch.zeros(T, 0), ValueError, "H >= 1"),
        ("hidden_states", torch.zeros(T, H).to_sparse(), ValueError, "sparse"),
        ("gate_up_proj", None, TypeError, "NoneType"),
        ("gate_up_proj", torch.zeros(E, 2 * I, H).half(), TypeError, "float32, got torch.float16"),
        ("gate_up_proj", torch.zeros(2 * I, H), ValueError, r"\(E, 2I, H\).*\(12, 8\)"),
        ("gate_up_proj", torch.zeros(E, 2 * I, H + 1), ValueError, r"H = 8.*\(5, 12, 9\)"),
        ("gate_up_proj", torch.zeros(E, 2 * I - 1, H), ValueError, "odd 11"),
        ("gate_up_proj", torch.zeros(0, 2 * I, H), ValueError, "E >= 1"),
        ("gate_up_proj", torch.zeros(E, 0, H), ValueError, "I >= 1"),
        ("down_proj", torch.zeros(E, I, H), ValueError, r"\(5, 8, 6\).*\(5, 6, 8\)"),
        ("down_proj", torch.zeros(E - 1, H, I), ValueError, r"\(5, 8, 6\).*\(4, 8, 6\)"),
        ("topk_ids", torch.zeros(T, K), TypeError, "int32, torch.int64, got torch.float32"),
        ("topk_ids", torch.zeros(T, K, dtype=torch.int16), TypeError, "int16"),
        ("topk_ids", torch.zeros(T + 1, K, dtype=torch.int32), ValueError, r"T = 4.*\(5, 2\)"),
        ("topk_ids", torch.zeros(T, 0, dtype=torch.int32), ValueError, "K >= 1"),
        ("topk_ids", torch.zeros(T * K, dtype=torch.int32), ValueError, r"\(T, K\).*\(8,\)"),
        ("topk_weights", torch.zeros(T, K + 1), ValueError, r"\(4, 2\).*\(4, 3\)"),
        ("topk_weights", torch.zeros(T, K, dtype=torch.int32), TypeError, "int32"),
        ("topk_weights", torch.zeros(T, K, device="meta"), ValueError, "cpu|cuda.*meta"),
        ("down_proj", torch.zeros(E, H, I, device="meta"), ValueError, "cpu|cuda.*meta"),
        ("topk_weights", torch.zeros(T, K, requires_grad=True), ValueError, "no_grad"),
    ],
)
def test_fused_experts_refuses(
    make_experts: Callable[..., Any],
    device: torch.device,
    field: str,
    value: Any,
    error: type[Exception],
    message: str,
) -> None:
    if isinstance(value, torch.Tensor) and value.device.type == "cpu":
        value = value.to(device)
    experts = replace(make_experts(T, H, I, E, K), **{field: value})
    refused(error, f"^{field} .*({message})", lambda: fused_experts(*experts.arguments))


def test_weights_without_gradients_pass_under_no_grad(make_experts: Callable[..., Any]) -> None:
    experts = make_experts(T, H, I, E, K)
    learned = replace(experts, down_proj=experts.down_proj.clone().requires_grad_())
    refused(ValueError, "^down_proj .*no_grad", lambda: fused_experts(*learned.arguments))
    with torch.no_grad():
        actual = fused_experts(*learned.arguments)
    assert torch.equal(actual, fused_experts(*experts.arguments))


@pytest.mark.parametrize("option", ["allow_tf32", "batch_invariant"])
def test_flags_are_bools(make_experts: Callable[..., Any], option: str) -> None:
    experts = make_experts(T, H, I, E, K)
    call = lambda: fused_experts(*experts.arguments, **{option: 1})  # noqa: E731
    refused(TypeError, f"^{option} must be a bool, got int", call)


def test_too_many_slots(make_experts: Callable[..., Any], device: torch.device) -> None:
    experts = make_experts(1, H, I, E, K)
    slots = (1 << 28) + 1
    ids = experts.topk_ids[:, :1].expand(1, slots)
    weights = experts.topk_weights[:, :1].expand(1, slots)
    experts = replace(experts, topk_ids=ids, topk_weights=weights)
    refused(
        ValueError, "^topk_ids .*268435456.*268435457", lambda: fused_experts(*experts.arguments)
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"top_k": 0}, ValueError, "top_k must lie between 1 and 12 .*got 0"),
        ({"top_k": 13}, ValueError, "top_k must lie between 1 and 12 .*got 13"),
        ({"top_k": 2.0}, TypeError, "top_k must be an int, got float"),
        ({"top_k": True}, TypeError, "top_k must be an int, got bool"),
        ({"scoring": "relu"}, ValueError, "scoring must be one of softmax, sigmoid, got 'relu'"),
        ({"renormalize": None}, TypeError, "renormalize must be a bool, got NoneType"),
        ({"correction_bias": [0.0]}, TypeError, "correction_bias must be a torch.Tensor"),
        ({"correction_bias": torch.zeros(11)}, ValueError, r"correction_bias .*\(12,\).*\(11,\)"),
        ({"correction_bias": torch.zeros(12, 1)}, ValueError, r"correction_bias .*\(12, 1\)"),
        ({"correction_bias": torch.zeros(12, device="meta")}, ValueError, "correction_bias .*meta"),
        ({"num_groups": 5}, ValueError, "num_groups must divide .* 12, got 5"),
        ({"num_groups": 0}, ValueError, "num_groups must lie between 1 and 12 .*got 0"),
        ({"num_groups": 4, "topk_groups": 5}, ValueError, "topk_groups .* 1 and 4 .*got 5"),
        ({"num_groups": 4, "topk_groups": 0}, ValueError, "topk_groups .*got 0"),
        ({"num_groups": 4, "topk_groups": 1, "top_k": 4}, ValueError, "top_k must be at most 3"),
        ({"scaling_factor": "2"}, TypeError, "scaling_factor must be a float, got str"),
    ],
)
def test_route_and_fused_moe_refuse(
    device: torch.device, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    options = {"top_k": 2} | options
    bias = options.get("correction_bias")
    if isinstance(bias, torch.Tensor) and bias.device.type == "cpu":
        options["correction_bias"] = bias.to(device)
    logits = torch.zeros(3, 12, device=device)
    refused(error, f"^{message}", lambda: route(logits, **options))
    weights = [torch.zeros(12, 4, 8, device=device), torch.zeros(12, 8, 2, device=device)]
    tensors = [torch.zeros(3, 8, device=device), torch.zeros(12, 8, device=device), *weights]
    refused(error, f"^{message}", lambda: fused_moe(*tensors, **options))


@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        ([[1.0]], TypeError, "torch.Tensor"),
        (torch.zeros(3, 4, dtype=torch.int32), TypeError, "int32"),
        (torch.zeros(4), ValueError, r"\(T, E\).*\(4,\)"),
        (torch.zeros(3, 0), ValueError, "E >= 1"),
        (torch.zeros(3, 4, device="meta"), ValueError, "meta"),
        (torch.zeros(3, 4, requires_grad=True), ValueError, "no_grad"),
    ],
)
def test_route_refuses_logits(
    device: torch.device, logits: Any, error: type[Exception], message: str
) -> None:
    if isinstance(logits, torch.Tensor) and logits.device.type == "cpu":
        logits = logits.to(device)
    refused(error, f"^router_logits .*{message}", lambda: route(logits, 1))


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        ((5, 9), torch.float32, ValueError, r"\(5, 8\).*\(5, 9\)"),
        ((4, 8), torch.float32, ValueError, r"\(5, 8\).*\(4, 8\)"),
        ((5, 8), torch.float64, TypeError, "float64"),
    ],
)
def test_fused_moe_refuses_router_weight(
    make_experts: Callable[..., Any],
    device: torch.device,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    error: type[Exception],
    message: str,
) -> None:
    experts = make_experts(T, H, I, E, K)
    weight = torch.zeros(shape, dtype=dtype, device=device)
    tensors = (experts.hidden_states, weight, experts.gate_up_proj, experts.down_proj)
    refused(error, f"^router_weight .*{message}", lambda: fused_moe(*tensors, 2))


def test_cpu_tensors_need_the_interpreter() -> None:
    program = (
        "import torch, moe_dispatch\n"
        "try:\n"
        "    moe_dispatch.route(torch.zeros(3, 4), 2)\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert "router_logits" in result.stdout, result.stderr
    assert "TRITON_INTERPRET=1" in result.stdout
