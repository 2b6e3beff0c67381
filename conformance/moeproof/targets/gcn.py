"""AMD's machine code: from the assembler text that Triton's binary is made of to a listing.

Names of instructions: AMD's CDNA 2, CDNA 3, RDNA 3 and RDNA 4 ISA references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from moeproof.targets.instruction_set import MemoryLoad
from moeproof.targets.listing import Instruction, Listing, read_listing

_INSTRUCTION = re.compile(r"^\t([a-z]\w+)(?:[ \t]+([^;]*?))?[ \t]*(?:;[ \t]*(.*))?$")
_LABEL = re.compile(r"^(\.?\w+):")
_MATRIX = re.compile(r"v_(?:s|sw)?(mfma|wmma|mmac)c?_\w*?(\d+)x(\d+)x(\d+)(?:_(\d+)b)?")
_LOAD = re.compile(
    r"(?:global|flat|buffer)_load_(?:lds_)?(?:tr\d*_|d16_(?:hi_)?)?"
    r"(?:[us]?(byte|short|dword)(x[234])?|[biuf](\d+))"
)
_SHARED_LOAD = re.compile(r"ds_(?:read|load)_?(2)?(?:\w*?_)??[biuf](\d+)")
_WIDE = re.compile(
    r"v_(lshl_add_u64|add_nc_u64|mad_(co_)?[ui]64_[ui]32|addc_co_u32|add_co_ci_u32|subb_co_u32)"
    r"|s_(addc_u32|add_co_ci_u32|add_nc_u64|mul_u64|add_u64|lshl_b64)"
)
_REGISTER = re.compile(r"\b([vsa])(?:(\d+)\b|\[(\d+):(\d+)\])")
_FIGURE = re.compile(r"^\s+(?:- )?\.(\w+):\s+(\d+)$", re.MULTILINE)
_UNITS = {"byte": 1, "short": 2, "dword": 4}


@dataclass(frozen=True)
class ResourceUsage:
    """What the code object's metadata says.

    Attributes:
        vector_registers: a lane's, accumulation registers included.
        accumulation_registers: the part that only CDNA has.
        scalar_registers: a wave's.
        scratch_bytes: of private memory a lane.
        vector_spills, scalar_spills: registers that had to be saved.
    """

    vector_registers: int
    accumulation_registers: int
    scalar_registers: int
    scratch_bytes: int
    vector_spills: int
    scalar_spills: int


def read_assembly(text: str) -> tuple[Listing, ResourceUsage]:
    """The listing of Triton's ``amdgcn`` text and the resources in the metadata at its end."""
    code, _, metadata = text.partition(".amdgpu_metadata")
    figures = {name: int(value) for name, value in _FIGURE.findall(metadata)}
    usage = ResourceUsage(
        vector_registers=figures["vgpr_count"],
        accumulation_registers=figures.get("agpr_count", 0),
        scalar_registers=figures["sgpr_count"],
        scratch_bytes=figures["private_segment_fixed_size"],
        vector_spills=figures["vgpr_spill_count"],
        scalar_spills=figures["sgpr_spill_count"],
    )
    return read_listing(_lines(code)), usage


class Gcn:
    """The questions about AMD's instructions."""

    def matrix_path(self, instruction: Instruction) -> str | None:
        found = _MATRIX.match(instruction.opcode)
        if found is None:
            return None
        return "wmma" if found[1] == "wmma" else "mfma"

    def matrix_products(self, instruction: Instruction) -> int | None:
        found = _MATRIX.match(instruction.opcode)
        if found is None:
            return None
        return int(found[2]) * int(found[3]) * int(found[4]) * int(found[5] or 1)

    def warps_at_once(self, instruction: Instruction) -> int:
        return 1

    def waits_for_products(self, instruction: Instruction) -> bool:
        return False  # The hardware holds back what needs a result, and nothing else.

    def global_load(self, instruction: Instruction) -> MemoryLoad | None:
        found = _LOAD.match(instruction.opcode)
        if found is None:
            return None
        unit, times, bits = found.groups()
        width = int(bits) // 8 if bits else _UNITS[unit] * int((times or "x1")[1:])
        if "_lds_" in instruction.opcode or instruction.operands.endswith(" lds"):
            return MemoryLoad(width, "LDS")
        destination = self.registers(instruction.operands.partition(",")[0])
        return MemoryLoad(width, "registers", destination)

    def shared_load_width(self, instruction: Instruction) -> int | None:
        found = _SHARED_LOAD.match(instruction.opcode)
        return None if found is None else int(found[2]) // 8 * (2 if found[1] else 1)

    def spills(self, instruction: Instruction) -> bool:
        return instruction.opcode.startswith("scratch_") or (
            "Folded" in instruction.note and instruction.opcode.startswith("buffer_")
        )

    def wide_address(self, instruction: Instruction) -> bool:
        return _WIDE.match(instruction.opcode) is not None

    def registers(self, text: str) -> frozenset[str]:
        return frozenset(
            f"{kind}{number}"
            for kind, single, first, last in _REGISTER.findall(text)
            for number in range(int(single or first), int(single or last) + 1)
        )


def _lines(code: str) -> Iterator[Instruction | str]:
    """Instructions and labels of the text section; debug information comes after ``s_endpgm``."""
    for line in code.splitlines():
        label = _LABEL.match(line)
        if label:
            yield label[1]
            continue
        found = _INSTRUCTION.match(line)
        if found is None:
            continue
        opcode, operands, note = found[1], (found[2] or "").strip(), found[3] or ""
        jumps = opcode.startswith(("s_branch", "s_cbranch"))
        yield Instruction(opcode, operands, label=operands if jumps else None, note=note)
