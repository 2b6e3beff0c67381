"""moe_dispatch on an emulated CDNA GPU, with instructions of its machine code taken away."""

from __future__ import annotations

import struct
from dataclasses import replace

import torch

import moe_dispatch
from moeproof.amd import driver
from moeproof.amd.code_object import CodeObject, load_code_object
from moeproof.amd.decoding import disassemble

_S_NOP = struct.pack("<I", 0xBF800000)


class Edited:
    """Every instruction of one name is made an ``s_nop``."""

    def __init__(self, removed: str) -> None:
        self._removed = removed

    def fused_experts(self, *arguments: torch.Tensor) -> torch.Tensor:
        driver.load_code_object = self._load
        output: torch.Tensor = moe_dispatch.fused_experts(*arguments)
        return output

    def _load(self, hsaco: bytes) -> CodeObject:
        code = load_code_object(hsaco)
        image = bytearray(code.image)
        for instruction in disassemble(code):
            if instruction.name == self._removed:
                end = instruction.address + instruction.size
                image[instruction.address : end] = _S_NOP * (instruction.size // len(_S_NOP))
        return replace(code, image=bytes(image))


nothing_removed = Edited("")
without_barriers = Edited("s_barrier")
without_selects = Edited("v_cndmask_b32")
