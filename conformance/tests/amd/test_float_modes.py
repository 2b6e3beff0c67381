"""Rounding and denormal modes other than the default are refused by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from moeproof.amd.code_object import CodeObject
from moeproof.amd.decoding import UnknownInstruction
from moeproof.amd.instruction_formats import formats_of

sys.path.insert(0, str(Path(__file__).parent))
from assembled import ARCHITECTURES, execute, format_of, waves_of

SETREG = "s_setreg_imm32_b32"


def with_mode(code: CodeObject, mode: int) -> CodeObject:
    """The code object whose kernels ask for another mode: bits 12 to 19 of the first resource."""
    kernels = {
        name: replace(
            kernel,
            resources=(kernel.resources[0] & ~0xFF000 | mode << 12, *kernel.resources[1:]),
        )
        for name, kernel in code.kernels.items()
    }
    return replace(code, kernels=kernels)


# LLVM AMDGPU usage, compute_pgm_rsrc1: rounding of 32 bits, of 16 and 64; denormals likewise.
@pytest.mark.parametrize("mode", [0xF1, 0xF2, 0xF3, 0xF4, 0xF8, 0xFC, 0xE0, 0xC0, 0xB0, 0x30, 0x00])
@pytest.mark.parametrize("arch", ["gfx942", "gfx1201"])
def test_a_kernel_that_asks_for_another_mode_is_refused(
    kernels_of: Callable[..., Any], arch: str, mode: int
) -> None:
    kernels = kernels_of(arch)
    x = torch.zeros(1024)
    arguments = {"x_ptr": x, "y_ptr": x, "out_ptr": torch.zeros(1024), "n": 1024}
    kernels.run("add", arguments, grid=(1,), code=with_mode(kernels.code("add"), 0xF0))
    with pytest.raises(
        UnknownInstruction, match=f"'add_kernel': rounding and denormal mode {mode:#x}"
    ):
        kernels.run("add", arguments, grid=(1,), code=with_mode(kernels.code("add"), mode))


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize(
    ("register", "first", "size"),
    [(1, 0, 4), (1, 4, 4), (1, 0, 8), (1, 4, 2), (1, 23, 2), (2, 23, 1)],
)
def test_changing_the_mode_in_a_kernel_is_refused(
    family: str, register: int, first: int, size: int
) -> None:
    encoding = next(
        known.encoding for known in formats_of(family) if known.number_of(SETREG) is not None
    )
    where = size - 1 << 11 | first << 6 | register
    arch = ARCHITECTURES[family]
    known = format_of(family, encoding, SETREG)
    with pytest.raises(
        UnknownInstruction,
        match=f"{SETREG} .*: hardware register {register}, {size} bits from {first}",
    ):
        execute(known, SETREG, waves_of(64), arch=arch, simm16=where)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("cdna", "s_setreg_b32"),
        ("rdna3", "s_setreg_b32"),
        ("rdna4", "s_setreg_b32"),
        ("rdna3", "s_round_mode"),
        ("rdna3", "s_denorm_mode"),
        ("rdna4", "s_round_mode"),
        ("rdna4", "s_denorm_mode"),
    ],
)
def test_other_ways_to_change_it_are_refused(family: str, name: str) -> None:
    encoding = next(
        known.encoding for known in formats_of(family) if known.number_of(name) is not None
    )
    known = format_of(family, encoding, name)
    with pytest.raises(UnknownInstruction, match=f"{name} .*not emulated"):
        execute(known, name, waves_of(64), arch=ARCHITECTURES[family], simm16=1)
