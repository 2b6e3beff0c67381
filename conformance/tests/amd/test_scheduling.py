"""Waves that part and meet, their order, and races between them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from moeproof.amd.code_object import CodeObject
from moeproof.amd.decoding import disassemble

_S_NOP_CDNA = 0xBF800000


def without_barriers(code: CodeObject) -> CodeObject:
    """The code object with each s_barrier made an s_nop."""
    image = bytearray(code.image)
    barriers = [i for i in disassemble(code) if i.name == "s_barrier"]
    assert barriers
    for barrier in barriers:
        struct.pack_into("<I", image, barrier.address, _S_NOP_CDNA)
    return replace(code, image=bytes(image))


@pytest.mark.parametrize("arch", ["gfx942", "gfx1201"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_waves_does_not_matter(
    kernels_of: Callable[..., Any], random_tensor: Any, arch: str, seed: int
) -> None:
    kernels = kernels_of(arch)
    x = random_tensor(3, 1000)
    together, apart = torch.full_like(x, torch.nan), torch.full_like(x, torch.nan)
    first = kernels.run("softmax", {"x_ptr": x, "out_ptr": together, "columns": 1000}, grid=(3,))
    second = kernels.run(
        "softmax",
        {"x_ptr": x, "out_ptr": apart, "columns": 1000},
        grid=(3,),
        wave_order_seed=seed,
    )
    assert torch.equal(together, apart)
    assert first.opcodes == second.opcodes
    assert first.lds_races == second.lds_races == ()


def test_a_missing_barrier_is_a_race(kernels_of: Callable[..., Any], random_tensor: Any) -> None:
    kernels = kernels_of("gfx942")
    code = without_barriers(kernels.code("softmax"))
    x = random_tensor(1, 1000)
    expected = torch.softmax(x, 1)
    wrong = 0
    for seed in range(4):
        out = torch.full_like(x, torch.nan)
        figures = kernels.run(
            "softmax",
            {"x_ptr": x, "out_ptr": out, "columns": 1000},
            grid=(1,),
            code=code,
            wave_order_seed=seed,
        )
        assert figures.lds_races
        wrong += not torch.allclose(out, expected, rtol=2**-18)
    # The LDS is poisoned, so that what is read too early is seen in the result as well.
    assert wrong


@pytest.mark.parametrize("arch", ["gfx90a", "gfx1100"])
def test_waves_that_repeat_a_loop_until_they_win(kernels_of: Callable[..., Any], arch: str) -> None:
    """Without an atomic float addition, the compiler makes a loop of compare-and-swap."""
    x = torch.arange(1000, dtype=torch.int32) % 17
    total, most = torch.zeros(8), torch.zeros(8, dtype=torch.int32)
    last = torch.zeros(5, dtype=torch.int32)
    arguments = {"x_ptr": x, "sum_ptr": total, "most_ptr": most, "last_ptr": last, "n": 1000}
    figures = kernels_of(arch).run("atomics", arguments, grid=(4,))
    assert figures.opcodes.total() > 10_000
    assert torch.equal(total, x.view(125, 8).sum(0).float())
    assert torch.equal(most, x.view(125, 8).max(0).values)
