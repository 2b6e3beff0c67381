"""Kernels that spill registers to scratch memory, against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from moeproof.amd.decoding import UnknownInstruction


def product(kernels: Any, random_tensor: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The launch's figures, the product, and the exact one."""
    (kernel,) = kernels.code("matmul").kernels.values()
    assert kernel.private_segment > 0
    a = random_tensor(150, 70, dtype=torch.half)
    b = random_tensor(70, 100, dtype=torch.half, seed=1)
    c = torch.full((150, 100), torch.nan)
    arguments = {"a_ptr": a, "b_ptr": b, "c_ptr": c, "M": 150, "N": 100, "K": 70}
    figures = kernels.run("matmul", arguments, grid=(2, 2))
    return figures, c, a.double() @ b.double()


@pytest.mark.parametrize("arch", ["gfx942", "gfx950", "gfx1100", "gfx1201"])
def test_spilled_registers_come_back(
    kernels_of: Callable[..., Any], random_tensor: Any, arch: str
) -> None:
    figures, c, exact = product(kernels_of(arch, "spilling_kernels.py"), random_tensor)
    torch.testing.assert_close(c.double(), exact, rtol=2**-16, atol=2**-16)
    for access in ("scratch_load", "scratch_store"):
        assert any(name.startswith(access) for name in figures.opcodes)


def test_scratch_of_gfx90a_is_refused(kernels_of: Callable[..., Any], random_tensor: Any) -> None:
    """It lies behind a buffer that interleaves the lanes."""
    with pytest.raises(
        UnknownInstruction, match=r"matmul_kernel.* buffer_\w+ .*: a buffer with a str"
    ):
        product(kernels_of("gfx90a", "spilling_kernels.py"), random_tensor)
