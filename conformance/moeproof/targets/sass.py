"""NVIDIA's machine code: from a cubin to a listing, by the disassembler that Triton ships.

Names of instructions: CUDA Binary Utilities, "Instruction Set Reference".
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import triton

from moeproof.targets.instruction_set import MemoryLoad
from moeproof.targets.listing import Instruction, Listing, read_listing

_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_LABEL = re.compile(r"^(\.L_x_\d+):")
_BRANCH_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_WARP_MATRIX = re.compile(r"[HIQDBO]MMA\b")
_GROUP_MATRIX = re.compile(r"[HIQB]GMMA\b")
_TENSOR_MEMORY_MATRIX = re.compile(r"UTC[HIQO]MMA\b")
_WARP_SHAPE = re.compile(r"MMA\.(?:SP\.|SF\.)*(16|8)(8)(4|8|16|32|64)\b")
_GROUP_SHAPE = re.compile(r"\.(\d+)x(\d+)x(\d+)")
_WIDE = re.compile(
    r"(U?IADD3|U?IMAD|U?LEA|U?IADD)\S*\.X\b|U?IMAD\.WIDE|LEA\.HI\.X|(U?IADD3?|VIADD|U?LEA)\.64\b"
)
_REGISTER = re.compile(r"\b(U?R)(\d+)(\.64)?\b")


@dataclass(frozen=True)
class ResourceUsage:
    """What ``cuobjdump -res-usage`` says of a kernel: registers a lane, bytes of stack a lane."""

    registers: int
    stack_bytes: int


def disassemble(cubin: bytes) -> tuple[Listing, ResourceUsage]:
    """The listing of a cubin's kernel and the resources that it takes.

    Raises:
        RuntimeError: a tool failed; the message holds what it wrote.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _run(triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name)
        text = _run(triton.knobs.nvidia.nvdisasm.path, "-c", file.name)
    figures = {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", usage)}
    stack = figures["STACK"] + figures["LOCAL"]
    return read_listing(_lines(text)), ResourceUsage(figures["REG"], stack)


class Sass:
    """The questions about NVIDIA's instructions."""

    def matrix_path(self, instruction: Instruction) -> str | None:
        opcode = instruction.opcode
        if _TENSOR_MEMORY_MATRIX.match(opcode):
            return "tcgen05"
        if _GROUP_MATRIX.match(opcode):
            return "wgmma"
        return "mma.sync" if _WARP_MATRIX.match(opcode) else None

    def matrix_products(self, instruction: Instruction) -> int | None:
        pattern = _GROUP_SHAPE if self.matrix_path(instruction) == "wgmma" else _WARP_SHAPE
        shape = pattern.search(instruction.opcode)
        if shape is None:
            return None
        m, n, k = map(int, shape.groups())
        return m * n * k

    def warps_at_once(self, instruction: Instruction) -> int:
        return 4 if self.matrix_path(instruction) == "wgmma" else 1

    def waits_for_products(self, instruction: Instruction) -> bool:
        return instruction.opcode.startswith("WARPGROUP.DEPBAR") and instruction.operands.endswith(
            "0x0"
        )

    def global_load(self, instruction: Instruction) -> MemoryLoad | None:
        base, *suffixes = instruction.opcode.split(".")
        if base in ("UTMALDG", "UBLKCP"):
            return MemoryLoad(0, "TMA")
        if base == "LDGSTS":
            return MemoryLoad(_width(suffixes), "cp.async")
        if base == "LDG":
            width = _width(suffixes)
            return MemoryLoad(width, "registers", _destination(instruction.operands, width))
        return None

    def shared_load_width(self, instruction: Instruction) -> int | None:
        base, *suffixes = instruction.opcode.split(".")
        if base == "LDSM":
            # A lane gets 4 bytes of each of 1, 2 or 4 matrices.
            return 4 * next((int(part) for part in suffixes if part in ("2", "4")), 1)
        return _width(suffixes) if base == "LDS" else None

    def spills(self, instruction: Instruction) -> bool:
        return instruction.opcode.split(".")[0] in ("LDL", "STL")

    def wide_address(self, instruction: Instruction) -> bool:
        return _WIDE.match(instruction.opcode) is not None

    def registers(self, text: str) -> frozenset[str]:
        return frozenset(
            f"{kind}{int(number) + step}"
            for kind, number, pair in _REGISTER.findall(text)
            for step in range(2 if pair else 1)
        )


def _destination(operands: str, width: int) -> frozenset[str]:
    """The registers of a load: consecutive ones from the first operand that is a register."""
    first = re.search(r"\bR(\d+)", operands)
    if first is None:  # RZ: the value is thrown away
        return frozenset()
    start = int(first[1])
    return frozenset(f"R{number}" for number in range(start, start + max(1, width // 4)))


def _width(suffixes: list[str]) -> int:
    for suffix in suffixes:
        if suffix in ("256", "128", "64"):
            return int(suffix) // 8
        if re.fullmatch(r"[US](8|16)", suffix):
            return int(suffix[1:]) // 8
    return 4


def _lines(text: str) -> Iterator[Instruction | str]:
    for line in text.splitlines():
        label = _LABEL.match(line)
        if label:
            yield label[1]
            continue
        found = _INSTRUCTION.match(line)
        if found:
            target = _BRANCH_TARGET.search(found[2]) if found[1].startswith("BRA") else None
            yield Instruction(found[1], found[2], label=target[1] if target else None)


def _run(tool: str, *arguments: str) -> str:
    result = subprocess.run([tool, *arguments], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{tool} failed: {result.stderr.strip()}")
    return result.stdout
