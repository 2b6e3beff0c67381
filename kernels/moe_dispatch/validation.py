"""Errors for arguments that the kernels cannot take.

Each message names the argument, what was given and what is allowed. TypeError: not a tensor, or a
dtype that is never allowed. ValueError: everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .target import INTERPRETED, device_type

ACTIVATION_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_ID_DTYPES = (torch.int32, torch.int64)
SCORINGS = ("softmax", "sigmoid")
_MAX_SLOTS = 1 << 28
"""T * K: row numbers, and the schedule's buffer of up to 4 T K + 1 entries, are 32-bit."""


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


def check_forward_only(**tensors: torch.Tensor | None) -> None:
    """No gradient can be asked for: the kernels have no backward pass."""
    if not torch.is_grad_enabled():
        return
    for name, tensor in tensors.items():
        if tensor is not None and tensor.requires_grad:
            raise ValueError(
                f"{name} requires a gradient, which moe_dispatch does not compute; "
                "call it under torch.no_grad() or torch.inference_mode()"
            )


def check_same_device(name: str, tensor: torch.Tensor, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"{name} must be on {device} like hidden_states, got {tensor.device}")


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
    """`fused_experts`' tensors agree with one another and with the device."""
    check_tensor("hidden_states", hidden_states, shape="(T, H)", ndim=2, dtypes=ACTIVATION_DTYPES)
    dtype, device = hidden_states.dtype, hidden_states.device
    check_tensor("gate_up_proj", gate_up_proj, shape="(E, 2I, H)", ndim=3, dtypes=(dtype,))
    check_tensor("down_proj", down_proj, shape="(E, H, I)", ndim=3, dtypes=(dtype,))
    check_tensor("topk_ids", topk_ids, shape="(T, K)", ndim=2, dtypes=_ID_DTYPES)
    check_tensor("topk_weights", topk_weights, shape="(T, K)", ndim=2, dtypes=ACTIVATION_DTYPES)

    num_tokens, hidden_size = hidden_states.shape
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
    if topk_ids.numel() > _MAX_SLOTS:
        raise ValueError(
            f"topk_ids must hold at most 2**28 slots, got {topk_ids.numel()}; split the batch"
        )
    check_same_device("gate_up_proj", gate_up_proj, device)
    check_same_device("down_proj", down_proj, device)
    check_same_device("topk_ids", topk_ids, device)
    check_same_device("topk_weights", topk_weights, device)
    check_device("hidden_states", device)
    check_forward_only(
        hidden_states=hidden_states,
        gate_up_proj=gate_up_proj,
        down_proj=down_proj,
        topk_weights=topk_weights,
    )


def check_integer(name: str, value: Any, *, low: int, high: int, meaning: str) -> None:
    """`value` is an int in [low, high]; `meaning` says in the message what bounds it."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low} and {high} ({meaning}), got {value}")


def check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")


def check_routing_options(
    *,
    num_experts: int,
    device: torch.device,
    top_k: int,
    scoring: str,
    renormalize: bool,
    correction_bias: torch.Tensor | None,
    num_groups: int,
    topk_groups: int | None,
    scaling_factor: float,
) -> int:
    """Checks `route`'s options; returns the number of groups to keep."""
    check_integer("top_k", top_k, low=1, high=num_experts, meaning="the number of experts")
    if scoring not in SCORINGS:
        raise ValueError(f"scoring must be one of {', '.join(SCORINGS)}, got {scoring!r}")
    check_flag("renormalize", renormalize)
    if correction_bias is not None:
        check_tensor(
            "correction_bias", correction_bias, shape="(E,)", ndim=1, dtypes=ACTIVATION_DTYPES
        )
        if correction_bias.shape[0] != num_experts:
            raise ValueError(
                f"correction_bias must have shape (E,) = ({num_experts},), "
                f"got {tuple(correction_bias.shape)}"
            )
        if correction_bias.device != device:
            raise ValueError(
                f"correction_bias must be on the logits' device {device}, "
                f"got {correction_bias.device}"
            )
        check_forward_only(correction_bias=correction_bias)
    check_integer(
        "num_groups", num_groups, low=1, high=num_experts, meaning="the number of experts"
    )
    if num_experts % num_groups:
        raise ValueError(
            f"num_groups must divide the number of experts {num_experts}, got {num_groups}"
        )
    if topk_groups is None:
        topk_groups = num_groups
    check_integer("topk_groups", topk_groups, low=1, high=num_groups, meaning="num_groups")
    reachable = topk_groups * (num_experts // num_groups)
    if top_k > reachable:
        raise ValueError(
            f"top_k must be at most {reachable}, the number of experts in {topk_groups} of "
            f"{num_groups} groups, got {top_k}"
        )
    if not isinstance(scaling_factor, (int, float)) or isinstance(scaling_factor, bool):
        raise TypeError(f"scaling_factor must be a float, got {type(scaling_factor).__name__}")
    return topk_groups


def check_logits(router_logits: torch.Tensor) -> None:
    """`router_logits` is a (T, E) floating-point tensor with E >= 1 where kernels can run."""
    check_tensor("router_logits", router_logits, shape="(T, E)", ndim=2, dtypes=ACTIVATION_DTYPES)
    if router_logits.shape[1] == 0:
        raise ValueError("router_logits must have shape (T, E) with E >= 1, got E = 0")
    check_device("router_logits", router_logits.device)
    check_forward_only(router_logits=router_logits)
