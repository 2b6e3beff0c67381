"""Calls are planned once, and a plan serves no call that is not like the one it was made for."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from moe_dispatch import fused_experts, fused_moe, route
from moe_dispatch import plan as plan_module
from moe_dispatch.plan import PLANS_KEPT, planned


class Counted:
    """A planned function of two tensors and options, which counts how often it is planned."""

    def __init__(self) -> None:
        self.plans = 0
        self.call = planned(self._plan)

    def _plan(self, *arguments: Any) -> Callable[..., tuple[Any, ...]]:
        if "wrong" in arguments:
            raise ValueError("wrong")
        self.plans += 1
        return lambda *tensors: tensors


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.bfloat16)


def test_like_calls_are_planned_once() -> None:
    counted = Counted()
    for _ in range(3):
        tensors = (zeros(4, 16), zeros(16))
        assert counted.call(tensors, 2, "softmax", True) == tensors
    assert counted.plans == 1


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(zeros(5, 16), id="shape"),
        pytest.param(zeros(4, 32)[:, :16], id="row-stride"),
        pytest.param(zeros(16, 4).T, id="order"),
        pytest.param(zeros(4, 16).half(), id="dtype"),
        pytest.param(zeros(65)[1:].view(4, 16), id="alignment"),
        pytest.param(zeros(4, 16).to("meta"), id="device"),
        pytest.param(zeros(4, 16).requires_grad_(), id="gradient"),
        pytest.param(None, id="none"),
    ],
)
def test_another_tensor_is_another_plan(first: torch.Tensor | None) -> None:
    counted = Counted()
    second = zeros(16)
    counted.call((second, zeros(4, 16)), 2)
    counted.call((second, first), 2)
    assert counted.plans == 2


@pytest.mark.parametrize("options", [(3, True), (2, False), (2, 1), (2.0, True), (2,)])
def test_another_option_is_another_plan(options: tuple[Any, ...]) -> None:
    counted = Counted()
    counted.call((zeros(4), zeros(4)), 2, True)
    counted.call((zeros(4), zeros(4)), *options)
    assert counted.plans == 2


def test_whether_gradients_are_recorded_is_part_of_the_plan() -> None:
    counted = Counted()
    tensors = (zeros(4), zeros(4).requires_grad_())
    with torch.no_grad():
        counted.call(tensors)
    counted.call(tensors)
    assert counted.plans == 2


def test_another_driver_is_another_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    tensors = (zeros(4), zeros(4))
    for driver in ("first", "second", "first"):
        monkeypatch.setattr(plan_module, "active_driver", lambda driver=driver: driver)
        counted.call(tensors)
    assert counted.plans == 2


def test_what_is_refused_is_refused_again() -> None:
    counted = Counted()
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            counted.call((zeros(4), zeros(4)), "wrong")
    counted.call((zeros(4), zeros(4)), "right")
    assert counted.plans == 1


@pytest.mark.parametrize("option", [[2], {"top_k": 2}])
def test_what_has_no_hash_is_planned_each_time(option: Any) -> None:
    counted = Counted()
    for _ in range(2):
        counted.call((zeros(4), zeros(4)), option)
    assert counted.plans == 2


def test_plans_do_not_pile_up() -> None:
    counted = Counted()
    tensors = (zeros(1), zeros(1))
    for number in range(PLANS_KEPT + 1):
        counted.call(tensors, number)
    counted.call(tensors, PLANS_KEPT)
    assert counted.plans == PLANS_KEPT + 1
    counted.call(tensors, 0)
    assert counted.plans == PLANS_KEPT + 2


@pytest.mark.parametrize("num_tokens", [0, 1, 9])
def test_no_tensor_outlives_its_call(make_experts: Callable[..., Any], num_tokens: int) -> None:
    experts = make_experts(num_tokens, 24, 16, 4, 2)
    router_weight = torch.randn(4, 24, device=experts.hidden_states.device)
    bias = torch.randn(4, device=router_weight.device)
    hidden_states, gate_up_proj, down_proj, *_ = experts.arguments
    logits = hidden_states @ router_weight.T
    tensors = [
        *experts.arguments,
        router_weight,
        bias,
        logits,
        fused_experts(*experts.arguments),
        fused_moe(hidden_states, router_weight, gate_up_proj, down_proj, 2, correction_bias=bias),
        *route(logits, 2, correction_bias=bias),
    ]
    alive = [weakref.ref(tensor) for tensor in tensors]
    del experts, router_weight, bias, hidden_states, gate_up_proj, down_proj, logits, tensors, _
    gc.collect()
    assert not any(reference() is not None for reference in alive)


_PROGRAM = """
import torch, triton
from cross_compile import CompileOnlyDriver, target_of
from moe_dispatch import combine, down, fused_experts, fused_moe, gate_up, schedule

KERNELS = (
    combine.combine_kernel, down.down_kernel, gate_up.gate_up_kernel, schedule.schedule_kernel
)
launched = []

class Recorder(CompileOnlyDriver):
    def launcher_cls(self, source, metadata):
        def launcher(*arguments):
            given = [getattr(argument, "base", argument) for argument in arguments[9:]]
            launched.append((source.fn.__name__, metadata.target.arch, given))
        return launcher

def compiled():
    return sum(len(cache[0]) for kernel in KERNELS for cache in kernel.device_caches.values())

def call(*, offset=0):
    size = 64 * 256
    x = torch.zeros(size + 8, dtype=torch.bfloat16)[offset : offset + size].view(64, 256)
    tensors = [
        x,
        torch.zeros(4, 128, 256, dtype=torch.bfloat16),
        torch.zeros(4, 256, 64, dtype=torch.bfloat16),
        torch.zeros(64, 2, dtype=torch.int32),
        torch.zeros(64, 2),
    ]
    tensors.append(fused_experts(*tensors))
    # The tensors of this call, and of each launch but the last also what the next one reads.
    names = [name for name, _, _ in launched]
    assert names == ["schedule_kernel", "gate_up_kernel", "down_kernel", "combine_kernel"], names
    given = [argument for *_, arguments in launched for argument in arguments]
    assert all(any(argument is tensor for argument in given) for tensor in tensors)
    (*_, place), (*_, up), (*_, down), (*_, sum_up) = launched
    assert place[2] is up[3] is down[6]
    assert up[2] is down[0] is down[1]
    assert down[5] is sum_up[0]
    architectures = {architecture for _, architecture, _ in launched}
    launched.clear()
    return architectures, compiled()

triton.runtime.driver.set_active(Recorder(target_of("sm_90")))
first = call()
assert first == ({90}, 4)
assert call() == first

# A tensor that starts elsewhere needs other code, and leaves the first as it was.
elsewhere = call(offset=1)
assert elsewhere == ({90}, 5)
assert call() == call(offset=1) == elsewhere

# Another driver means another device: what was compiled for the first is not launched there.
class Elsewhere(Recorder):
    def get_current_device(self):
        return 1

triton.runtime.driver.set_active(Elsewhere(target_of("sm_80")))
assert call()[0] == {80}
"""


def test_calls_launch_with_their_own_tensors(tmp_path: Path) -> None:
    """In a process of its own, since this one interprets."""
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM, encoding="utf-8")
    paths = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": ":".join(paths), "TRITON_INTERPRET": "0"}
    result = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
