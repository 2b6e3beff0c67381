"""Faults planted in the emulator: the Triton kernels' tests must see each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from moeproof.amd import lanes, vector_operations
from moeproof.amd.decoding import UnknownInstruction
from moeproof.amd.matrix import MatrixInstruction
from moeproof.amd.memory import MemoryFault
from moeproof.amd.state import Waves

Run = Callable[[Any, Any], bool]


def product_is_right(kernels: Any, random_tensor: Any) -> bool:
    a, b = random_tensor(64, 32).half(), random_tensor(32, 64, seed=1).half()
    c = torch.full((64, 64), torch.nan)
    arguments = {"a_ptr": a, "b_ptr": b, "c_ptr": c, "M": 64, "N": 64, "K": 32}
    kernels.run("matmul_fp16", arguments, grid=(1, 1))
    return torch.allclose(c, a.float() @ b.float(), rtol=2**-10, atol=2**-10)


def masked_addition_is_right(kernels: Any, random_tensor: Any) -> bool:
    """Elements behind the 777 are memory that the kernel may touch, but must not."""
    x, y, out = random_tensor(1024), random_tensor(1024, seed=1), torch.zeros(1024)
    kernels.run("add", {"x_ptr": x, "y_ptr": y, "out_ptr": out, "n": 777}, grid=(1,))
    return torch.equal(out[:777], (x + y)[:777]) and not out[777:].any()


def sum_over_lanes_is_right(kernels: Any, random_tensor: Any) -> bool:
    x = random_tensor(2, 500)
    weight, bias, out = torch.ones(500), torch.zeros(500), torch.zeros(2, 500)
    arguments = {"x_ptr": x, "weight_ptr": weight, "bias_ptr": bias, "out_ptr": out}
    kernels.run("layer_norm", {**arguments, "columns": 500, "epsilon": 1e-5}, grid=(2,))
    return torch.allclose(out, torch.nn.functional.layer_norm(x, (500,)), atol=2**-16)


def swap_two_result_lanes(patch: pytest.MonkeyPatch) -> None:
    execute = MatrixInstruction.execute

    def swapped(self: MatrixInstruction, *operands: Any, **scales: Any) -> Any:
        result = execute(self, *operands, **scales)
        result[..., [4, 5]] = result[..., [5, 4]]
        return result

    patch.setattr(MatrixInstruction, "execute", swapped)


def lose_the_first_element_along_k(patch: pytest.MonkeyPatch) -> None:
    execute = MatrixInstruction.execute

    def shortened(self: MatrixInstruction, a: Any, *rest: Any, **scales: Any) -> Any:
        a = a.copy()
        a[0, :, :16] &= np.uint32(0xFFFF0000)
        return execute(self, a, *rest, **scales)

    patch.setattr(MatrixInstruction, "execute", shortened)


def ignore_exec(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Waves, "refresh_mask", lambda waves: setattr(waves, "mask", True))


def invert_a_lane_of_exec(patch: pytest.MonkeyPatch) -> None:
    refresh = Waves.refresh_mask

    def refreshed(waves: Waves) -> None:
        refresh(waves)
        mask = waves.full_mask().copy()
        mask[0, 9] ^= True
        waves.mask = mask

    patch.setattr(Waves, "refresh_mask", refreshed)


def shift_lanes_by_one_more(patch: pytest.MonkeyPatch) -> None:
    move = lanes.dpp_move

    def moved(control: int, count: int) -> lanes.LaneMove:
        right = move(control, count)
        return lanes.LaneMove((right.source + 1) % count, right.valid)

    patch.setattr(lanes, "dpp_move", moved)


FAULTS: list[tuple[Callable[[pytest.MonkeyPatch], None], Run]] = [
    (swap_two_result_lanes, product_is_right),
    (lose_the_first_element_along_k, product_is_right),
    (ignore_exec, masked_addition_is_right),
    (invert_a_lane_of_exec, masked_addition_is_right),
    (shift_lanes_by_one_more, sum_over_lanes_is_right),
]


@pytest.mark.parametrize(("plant", "is_right"), FAULTS, ids=lambda f: f.__name__)
def test_a_planted_fault_is_seen(
    kernels_of: Callable[..., Any],
    random_tensor: Any,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    is_right: Run,
) -> None:
    kernels = kernels_of("gfx942")
    assert is_right(kernels, random_tensor)
    plant(monkeypatch)
    kernels.code(_kernel_of(is_right)).translations.clear()
    try:
        assert not is_right(kernels, random_tensor)
    except MemoryFault:
        pass  # seen earlier still
    finally:
        kernels.code(_kernel_of(is_right)).translations.clear()


def _kernel_of(is_right: Run) -> str:
    return {
        product_is_right: "matmul_fp16",
        masked_addition_is_right: "add",
        sum_over_lanes_is_right: "layer_norm",
    }[is_right]


def test_an_access_out_of_bounds_names_kernel_and_instruction(kernels_of: Any) -> None:
    x, y, out = torch.zeros(1000), torch.zeros(1000), torch.zeros(1000)
    arguments = {"x_ptr": x, "y_ptr": y, "out_ptr": out, "n": 1001}
    with pytest.raises(MemoryFault, match=r"add_kernel.*global_load.* at 0x.*4000 bytes"):
        kernels_of("gfx942").run("add", arguments, grid=(1,))


def test_an_unknown_instruction_is_named(kernels_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = kernels_of("gfx942")
    kernels.code("add").translations.clear()
    monkeypatch.delitem(vector_operations.OPERATIONS, "v_add_f32")
    x = torch.zeros(1024)
    arguments = {"x_ptr": x, "y_ptr": x, "out_ptr": torch.zeros(1024), "n": 1024}
    with pytest.raises(UnknownInstruction, match=r"add_kernel.*v_add_f32.* at 0x"):
        kernels.run("add", arguments, grid=(1,))
    kernels.code("add").translations.clear()
