"""Errors for arguments that the kernels cannot take.

Each message names the argument, what was given and what is allowed. TypeError: not a tensor, or a
dtype that is never allowed. ValueError: everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .routing_options import SCORINGS, RoutingOptions
from .target import INTERPRETED, device_type

ACTIVATION_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_ID_DTYPES = (torch.int32, torch.int64)
_MAX_SLOTS = 1 << 28
"""T * K: the schedule's buffer of up to 4 T K + 4 entries is indexed with 32 bits."""


def check_tensor(
    name: str, tensor: Any, *, shape: str, ndim: int, dtypes: Sequence[torch.dtype]
) -> None:
    """A strided tensor of `ndim` dimensions and one of `dtypes`; `shape` is for the message."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor {shape}, got {type(tensor).__name__}")
    if tensor.dtype not in dtypes:
        allowed = ", ".join(map(str, dtypes))
        raise TypeError(f"{name} must have dtype {allowed}, got {tensor.dtype}")
    if tensor.ndim != ndim:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if tensor.layout is not torch.strided:
        raise ValueError(f"{name} must be a strided tensor, got layout {tensor.layout}")


def check_forward_only(name: str, tensor: torch.Tensor) -> None:
    """No gradient is asked for: the kernels have no backward pass."""
    if tensor.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"{name} requires a gradient, which moe_dispatch does not compute; "
            "call it under torch.no_grad() or torch.inference_mode()"
        )


def check_slots(name: str, num_slots: int) -> None:
    """T * K fits the schedule's 32-bit numbers."""
    if num_slots > _MAX_SLOTS:
        raise ValueError(
            f"{name} must hold at most {_MAX_SLOTS} (token, k) pairs, got {num_slots}; "
            "split the batch"
        )


def check_same_device(name: str, tensor: torch.Tensor, hidden_states: torch.Tensor) -> None:
    if tensor.device != hidden_states.device:
        raise ValueError(
            f"{name} must be on hidden_states' device {hidden_states.device}, got {tensor.device}"
        )


def check_device(name: str, device: torch.device) -> None:
    """Tensors must lie where kernels run: a GPU, or the CPU under Triton's interpreter."""
    if device.type == "cpu" and INTERPRETED:
        return
    try:
        allowed = device_type()
    except RuntimeError as error:
        raise ValueError(
            f"{name} is on {device}, and Triton found no GPU to run on; to run on the CPU, set "
            "TRITON_INTERPRET=1 in the environment before importing moe_dispatch"
        ) from error
    if device.type == allowed:
        return
    hint = (
        "; to run on the CPU, set TRITON_INTERPRET=1 in the environment before importing "
        "moe_dispatch"
        if device.type == "cpu"
        else ""
    )
    raise ValueError(f"{name} must be on a {allowed} device, got {device}{hint}")


def check_experts_arguments(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
) -> None:
    """`fused_experts`' tensors agree with one another and lie where kernels can run."""
    check_expert_weights(hidden_states, gate_up_proj, down_proj)
    check_tensor("topk_ids", topk_ids, shape="(T, K)", ndim=2, dtypes=_ID_DTYPES)
    check_tensor("topk_weights", topk_weights, shape="(T, K)", ndim=2, dtypes=ACTIVATION_DTYPES)
    num_tokens = hidden_states.shape[0]
    if topk_ids.shape[0] != num_tokens or topk_ids.shape[1] == 0:
        raise ValueError(
            f"topk_ids must have shape (T, K) with hidden_states' T = {num_tokens} and K >= 1, "
            f"got {tuple(topk_ids.shape)}"
        )
    if topk_weights.shape != topk_ids.shape:
        raise ValueError(
            f"topk_weights must have topk_ids' shape {tuple(topk_ids.shape)}, "
            f"got {tuple(topk_weights.shape)}"
        )
    check_slots("topk_ids", topk_ids.numel())
    check_same_device("topk_ids", topk_ids, hidden_states)
    check_same_device("topk_weights", topk_weights, hidden_states)
    check_forward_only("topk_weights", topk_weights)


def check_expert_weights(
    hidden_states: torch.Tensor, gate_up_proj: torch.Tensor, down_proj: torch.Tensor
) -> None:
    """The activations and the experts' weights agree and lie where kernels can run."""
    check_tensor("hidden_states", hidden_states, shape="(T, H)", ndim=2, dtypes=ACTIVATION_DTYPES)
    dtypes = (hidden_states.dtype,)
    check_tensor("gate_up_proj", gate_up_proj, shape="(E, 2I, H)", ndim=3, dtypes=dtypes)
    check_tensor("down_proj", down_proj, shape="(E, H, I)", ndim=3, dtypes=dtypes)
    hidden_size = hidden_states.shape[1]
    num_experts, gate_up_rows, gate_up_width = gate_up_proj.shape
    if hidden_size == 0:
        raise ValueError("hidden_states must have shape (T, H) with H >= 1, got H = 0")
    if num_experts == 0 or gate_up_rows == 0:
        raise ValueError(
            "gate_up_proj must have shape (E, 2I, H) with E >= 1 and I >= 1, "
            f"got {tuple(gate_up_proj.shape)}"
        )
    if gate_up_rows % 2:
        raise ValueError(
            "gate_up_proj must have shape (E, 2I, H), gate and up rows in equal number, "
            f"got an odd {gate_up_rows} rows"
        )
    if gate_up_width != hidden_size:
        raise ValueError(
            f"gate_up_proj must have shape (E, 2I, H) with hidden_states' H = {hidden_size}, "
            f"got {tuple(gate_up_proj.shape)}"
        )
    expected = (num_experts, hidden_size, gate_up_rows // 2)
    if down_proj.shape != expected:
        raise ValueError(
            f"down_proj must have shape (E, H, I) = {expected} to fit gate_up_proj "
            f"{tuple(gate_up_proj.shape)}, got {tuple(down_proj.shape)}"
        )
    check_same_device("gate_up_proj", gate_up_proj, hidden_states)
    check_same_device("down_proj", down_proj, hidden_states)
    check_device("hidden_states", hidden_states.device)
    check_forward_only("hidden_states", hidden_states)
    check_forward_only("gate_up_proj", gate_up_proj)
    check_forward_only("down_proj", down_proj)


def check_router_weight(
    hidden_states: torch.Tensor, router_weight: torch.Tensor, num_experts: int
) -> None:
    """The router's weight fits the activations and the experts."""
    check_tensor("router_weight", router_weight, shape="(E, H)", ndim=2, dtypes=ACTIVATION_DTYPES)
    expected = (num_experts, hidden_states.shape[1])
    if router_weight.shape != expected:
        raise ValueError(
            f"router_weight must have shape (E, H) = {expected} to fit gate_up_proj and "
            f"hidden_states, got {tuple(router_weight.shape)}"
        )
    check_same_device("router_weight", router_weight, hidden_states)
    check_forward_only("router_weight", router_weight)


def check_integer(name: str, value: Any, *, low: int, high: int, meaning: str) -> None:
    """`value` is an int in [low, high]; `meaning` says in the message what bounds it."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low} and {high} ({meaning}), got {value}")


def check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")


def check_correction_bias(bias: Any, *, num_experts: int, device: torch.device) -> None:
    """The bias fits logits (T, num_experts) on `device`."""
    check_tensor("correction_bias", bias, shape="(E,)", ndim=1, dtypes=ACTIVATION_DTYPES)
    if bias.shape[0] != num_experts:
        raise ValueError(
            f"correction_bias must have shape (E,) = ({num_experts},), got {tuple(bias.shape)}"
        )
    if bias.device != device:
        raise ValueError(
            f"correction_bias must be on the logits' device {device}, got {bias.device}"
        )
    check_forward_only("correction_bias", bias)


def check_routing_options(
    options: RoutingOptions,
    correction_bias: torch.Tensor | None,
    *,
    num_experts: int,
    device: torch.device,
) -> None:
    """The options and the bias fit one another and logits (T, num_experts) on `device`."""
    experts = "the number of experts"
    check_integer("top_k", options.top_k, low=1, high=num_experts, meaning=experts)
    if options.scoring not in SCORINGS:
        raise ValueError(f"scoring must be one of {', '.join(SCORINGS)}, got {options.scoring!r}")
    check_flag("renormalize", options.renormalize)
    if correction_bias is not None:
        check_correction_bias(correction_bias, num_experts=num_experts, device=device)
    num_groups, topk_groups = options.num_groups, options.groups_taking_part
    check_integer("num_groups", num_groups, low=1, high=num_experts, meaning=experts)
    if num_experts % num_groups:
        raise ValueError(f"num_groups must divide {experts} {num_experts}, got {num_groups}")
    check_integer("topk_groups", topk_groups, low=1, high=num_groups, meaning="num_groups")
    reachable = topk_groups * (num_experts // num_groups)
    if options.top_k > reachable:
        raise ValueError(
            f"top_k must be at most {reachable}, the number of experts in {topk_groups} of "
            f"{num_groups} groups, got {options.top_k}"
        )
    if not isinstance(options.scaling_factor, (int, float)):
        raise TypeError(
            f"scaling_factor must be a float, got {type(options.scaling_factor).__name__}"
        )


def check_moe_arguments(
    hidden_states: torch.Tensor,
    router_weight: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    correction_bias: torch.Tensor | None,
    options: RoutingOptions,
) -> None:
    """`fused_moe`'s tensors and its routing options agree with one another."""
    check_expert_weights(hidden_states, gate_up_proj, down_proj)
    num_experts = gate_up_proj.shape[0]
    check_router_weight(hidden_states, router_weight, num_experts)
    check_routing_options(
        options, correction_bias, num_experts=num_experts, device=hidden_states.device
    )
    check_slots("hidden_states", hidden_states.shape[0] * options.top_k)


def check_logits(router_logits: torch.Tensor) -> None:
    """`router_logits` is a (T, E) floating-point tensor with E >= 1 where kernels can run."""
    check_tensor("router_logits", router_logits, shape="(T, E)", ndim=2, dtypes=ACTIVATION_DTYPES)
    if router_logits.shape[1] == 0:
        raise ValueError("router_logits must have shape (T, E) with E >= 1, got E = 0")
    check_device("router_logits", router_logits.device)
    check_forward_only("router_logits", router_logits)
