"""Decodes AMD machine code, with the tables of tinygrad, which are made from AMD's ISA files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from moeproof.amd.code_object import CodeObject
from moeproof.amd.instruction_formats import Format, as_gfx942, candidates, variant_of

_FAMILIES = {
    "gfx90a": "cdna",
    "gfx942": "cdna",
    "gfx950": "cdna",
    "gfx1100": "rdna3",
    "gfx1201": "rdna4",
}
ARCHITECTURES = tuple(_FAMILIES)

_LONGEST = 24
_FIRST_VGPR = 256
_SCALAR_RESULT = ("v_cmp", "v_readfirstlane", "v_readlane")  # whatever the format says


class UnknownInstruction(Exception):  # noqa: N818
    """An instruction that cannot be decoded or executed: named, never guessed."""


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    name: AMD's, in lower case, without the suffix _e32 or _e64; the two of a dual-issue instruction
    with "::" between. encoding: the format, such as "VOP2", "VOP3_SDST", "VOP1_DPP16" or
    "VOP2_LIT". fields: the raw value of each field, under one name for all formats (src0, not vsrc0
    or ssrc0); a register or constant is numbered as in AMD's 9-bit source operands (SGPRs from 0,
    constants from 128, VGPRs from 256). literal: the 32-bit constant behind it.
    """

    address: int
    size: int
    name: str
    encoding: str
    fields: Mapping[str, int] = field(hash=False)
    literal: int | None = None
    format: Format | None = field(default=None, repr=False, compare=False)
    raw: int = field(default=0, repr=False, compare=False)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bits of each operand."""
        return {} if self.format is None else self.format.operand_bits(self.raw)

    def __str__(self) -> str:
        fields = " ".join(f"{name}={value}" for name, value in self.fields.items() if value)
        return f"{self.name} ({self.encoding}) {fields} at {self.address:#x}"


def family_of(arch: str) -> str:
    """ "cdna", "rdna3" or "rdna4". Raises UnknownInstruction for any other architecture."""
    if arch not in _FAMILIES:
        raise UnknownInstruction(f"architecture {arch!r}: emulated are {', '.join(ARCHITECTURES)}")
    return _FAMILIES[arch]


def decode(code: CodeObject, address: int) -> Instruction:
    """The instruction at `address` of the code object's image.

    Raises UnknownInstruction when no format of the architecture matches the bytes.
    """
    octets = code.image[address : min(address + _LONGEST, code.text.stop)]
    raw = int.from_bytes(octets, "little")
    family = family_of(code.arch)
    known = as_gfx942(raw) if code.arch == "gfx90a" else raw
    if known is not None:
        for candidate in candidates(family, known >> 26 & 0x3F):
            if candidate.matches(known):
                return _decoded(variant_of(candidate, family, known), known, address)
    raise UnknownInstruction(
        f"no {code.arch} instruction begins with {octets[:8].hex()} at {address:#x}"
    )


def disassemble(code: CodeObject) -> Iterator[Instruction]:
    """All instructions of the text section, in order."""
    address = code.text.start
    while address < code.text.stop:
        instruction = decode(code, address)
        yield instruction
        address += instruction.size


def _decoded(found: Format, raw: int, address: int) -> Instruction:
    fields = found.field_values(raw)
    name = found.name(raw)
    if name.startswith(_SCALAR_RESULT) and fields.get("vdst", 0) >= _FIRST_VGPR:
        fields["vdst"] -= _FIRST_VGPR
    for index in "01":
        if fields.get(f"s{index}"):  # SDWA: the source is a scalar register
            fields[f"src{index}"] -= _FIRST_VGPR
    return Instruction(
        address=address,
        size=found.size,
        name=name,
        encoding=found.encoding,
        fields=fields,
        literal=fields.pop("literal", None),
        format=found,
        raw=raw & ((1 << 8 * found.size) - 1),
    )
