"""Decodes AMD machine code, with tinygrad's decoders: they are generated from AMD's ISA files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from tinygrad.renderer.amd import _load_formats, _matches
from tinygrad.renderer.amd import dsl as tinygrad_dsl

from moeproof.amd.code_object import CodeObject

_FAMILIES = {
    "gfx90a": "cdna",
    "gfx942": "cdna",
    "gfx950": "cdna",
    "gfx1100": "rdna3",
    "gfx1201": "rdna4",
}
ARCHITECTURES = tuple(_FAMILIES)

# The first half word of a scaled matrix instruction (CDNA4 ISA, "VOP3PX2"); tinygrad's format
# also matches the unscaled one, 8 bytes long, and would take the next instruction with it.
_SCALED_MFMA = 0xD3AC
_LONGEST = 24

# The formats whose byte offset is a signed number.
_SIGNED_OFFSET = ("GLOBAL", "SCRATCH", "SMEM", "VBUFFER", "VFLAT", "VGLOBAL", "VSCRATCH")

# One name for what the formats call differently.
_FIELD_NAMES = {
    "ssrc0": "src0",
    "ssrc1": "src1",
    "vsrc0": "src0",
    "vsrc1": "src1",
    "ioffset": "offset",
    "vaddr": "addr",
    "vsrc": "data",
    "rsrc": "srsrc",
}


class UnknownInstruction(Exception):  # noqa: N818
    """An instruction that cannot be decoded or executed: named, never guessed."""


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    name: AMD's, in lower case, without the suffix _e32 or _e64. encoding: the format, such as
    "VOP2", "VOP3_SDST", "VOP1_DPP16" or "VOP2_LIT". fields: the raw value of each field, under one
    name for all formats (src0, not vsrc0 or ssrc0); a register or constant is numbered as in AMD's
    9-bit source operands (SGPRs from 0, constants from 128, VGPRs from 256). sizes: bits of each
    operand. literal: the 32-bit constant behind it.
    """

    address: int
    size: int
    name: str
    encoding: str
    fields: Mapping[str, int] = field(hash=False)
    sizes: Mapping[str, int] = field(hash=False)
    literal: int | None = None

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
    raw = code.image[address : min(address + _LONGEST, code.text.stop)]
    decoded = _decoded(family_of(code.arch), raw, address)
    if hasattr(decoded, "opx"):
        name = f"{_plain(decoded.opx.name)}::{_plain(decoded.opy.name)}"
    else:
        name = _plain(decoded.op.name)
    return Instruction(
        address=address,
        size=decoded.size(),
        name=name,
        encoding=type(decoded).__name__,
        fields=_field_values(decoded),
        sizes={_FIELD_NAMES.get(name, name): bits for name, bits in decoded.op_bits.items()},
        literal=getattr(decoded, "literal", None),
    )


def disassemble(code: CodeObject) -> Iterator[Instruction]:
    """All instructions of the text section, in order."""
    address = code.text.start
    while address < code.text.stop:
        instruction = decode(code, address)
        yield instruction
        address += instruction.size


def _decoded(family: str, raw: bytes, address: int) -> tinygrad_dsl.Inst:
    for instruction_format in _load_formats()[family]:
        if instruction_format.__name__ == "VOP3PX2" and raw[2:4] != _SCALED_MFMA.to_bytes(
            2, "little"
        ):
            continue
        if _matches(raw, instruction_format):
            return instruction_format.from_bytes(raw)
    raise UnknownInstruction(f"no {family} instruction begins with {raw[:8].hex()} at {address:#x}")


def _plain(name: str) -> str:
    return name.lower().removesuffix("_e32").removesuffix("_e64")


def _field_values(decoded: tinygrad_dsl.Inst) -> dict[str, int]:
    return {name: read(decoded) for name, read in _readers(type(decoded))}


@cache
def _readers(
    instruction_format: type[tinygrad_dsl.Inst],
) -> list[tuple[str, Callable[[tinygrad_dsl.Inst], int]]]:
    signed_offset = instruction_format.__name__ in _SIGNED_OFFSET
    return [
        (
            _FIELD_NAMES.get(name, name),
            _reader(name, bits, signed=signed_offset and name in ("offset", "ioffset")),
        )
        for name, bits in instruction_format._fields
        if name not in ("op", "opx", "opy", "literal")
        and not isinstance(bits, tinygrad_dsl.FixedBitField)
    ]


def _reader(
    name: str, bits: tinygrad_dsl.BitField, *, signed: bool
) -> Callable[[tinygrad_dsl.Inst], int]:
    if isinstance(
        bits,
        (tinygrad_dsl.SrcField, tinygrad_dsl.AlignedSGPRField, tinygrad_dsl.VDSTYField),
    ):
        return lambda decoded: int(getattr(decoded, name).offset)
    if signed:
        half = (bits.mask + 1) >> 1
        return lambda decoded: (((decoded._raw >> bits.lo) & bits.mask) ^ half) - half
    return lambda decoded: (decoded._raw >> bits.lo) & bits.mask
