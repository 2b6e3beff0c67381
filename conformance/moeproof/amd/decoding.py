"""Decodes AMD machine code, with tinygrad's decoders: they are generated from AMD's ISA files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module

from tinygrad.renderer.amd import _load_formats, _matches
from tinygrad.renderer.amd import dsl as tinygrad_dsl
from tinygrad.runtime.autogen.amd.cdna.enum import MUBUFOp

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
_SCALED_MFMA = bytes.fromhex("acd3")
_LONGEST = 24
_FIRST_VGPR = 256

_BUFFER_FORMATS = {"rdna3": "MUBUF", "rdna4": "VBUFFER"}

# The bits that tell CDNA's buffer instructions, and its packed and matrix instructions.
_BUFFER_CDNA, _PACKED_CDNA = 0b111000, 0b110100111
_INVALIDATIONS_GFX90A = (0x3E, 0x3F)
_BF16_PRODUCTS_GFX90A = range(0x63, 0x68)
_BF16_PRODUCTS_MOVED = 6
_OTHER_PRODUCTS_GFX90A = (*range(0x54, 0x58), *range(0x68, 0x6D))

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
    if code.arch == "gfx90a":
        raw = _as_gfx942(raw, address)
    decoded = _decoded(code.arch, raw, address)
    if hasattr(decoded, "opx"):
        name = f"{_plain(decoded.opx.name)}::{_plain(decoded.opy.name)}"
    else:
        name = _plain(decoded.op.name)
    return Instruction(
        address=address,
        size=decoded.size(),
        name=name,
        encoding=type(decoded).__name__,
        fields=_field_values(decoded, name),
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


def _decoded(arch: str, raw: bytes, address: int) -> tinygrad_dsl.Inst:
    family = family_of(arch)
    for instruction_format in _formats(family):
        if instruction_format.__name__ == "VOP3PX2" and raw[2:4] != _SCALED_MFMA:
            continue
        if _matches(raw, instruction_format):
            return _refined(instruction_format.from_bytes(raw), raw)
    raise UnknownInstruction(f"no {arch} instruction begins with {raw[:8].hex()} at {address:#x}")


def _refined(decoded: tinygrad_dsl.Inst, raw: bytes) -> tinygrad_dsl.Inst:
    """Two kinds whose format tinygrad does not tell apart.

    A comparison in the VOP3 format with DPP, and the xf32 matrix products of gfx942, which are not
    on its list of matrix products.
    """
    if type(decoded).__name__ == "VOP3P" and decoded.op.name.startswith("V_MFMA"):
        return import_module(type(decoded).__module__).VOP3P_MFMA.from_bytes(raw)
    suffix = decoded._variant_suffix()
    if suffix is None or not type(decoded).__name__.endswith("_SDST"):
        return decoded
    formats = import_module(type(decoded).__module__)
    base = type(decoded).__name__.removesuffix("_SDST")
    return getattr(formats, base + suffix).from_bytes(raw)


@cache
def _formats(family: str) -> tuple[type[tinygrad_dsl.Inst], ...]:
    """tinygrad's list, and the buffer format that it leaves out of RDNA's."""
    formats = tuple(_load_formats()[family])
    if family in _BUFFER_FORMATS:
        module = import_module(f"tinygrad.runtime.autogen.amd.{family}.ins")
        formats += (getattr(module, _BUFFER_FORMATS[family]),)
    return formats


def _as_gfx942(raw: bytes, address: int) -> bytes:
    """A gfx90a instruction with the opcode that gfx942 has for the same.

    tinygrad's CDNA tables are those of CDNA3 and 4, which moved the bf16 products and reused the
    numbers of CDNA2's integer ones, and dropped the invalidation of the first cache (LLVM,
    VOP3PInstructions.td: V_MFMA_*BF16_1K; BUFInstructions.td: BUFFER_WBINVL1_VOL).
    """
    (word,) = struct.unpack_from("<I", raw)
    if word >> 26 == _BUFFER_CDNA and word >> 18 & 0x7F in _INVALIDATIONS_GFX90A:
        word = word & ~(0x7F << 18) | MUBUFOp.BUFFER_INV.value << 18
    elif word >> 23 == _PACKED_CDNA:
        number = word >> 16 & 0x7F
        if number in _OTHER_PRODUCTS_GFX90A:
            raise UnknownInstruction(f"gfx90a matrix opcode {number:#x} at {address:#x}")
        if number in _BF16_PRODUCTS_GFX90A:
            word -= _BF16_PRODUCTS_MOVED << 16
    return struct.pack("<I", word) + raw[4:]


def _plain(name: str) -> str:
    return name.lower().removesuffix("_e32").removesuffix("_e64")


def _field_values(decoded: tinygrad_dsl.Inst, name: str) -> dict[str, int]:
    values = {field: read(decoded) for field, read in _readers(type(decoded))}
    if name.startswith("v_cmp") and values.get("vdst", 0) >= _FIRST_VGPR:
        values["vdst"] -= _FIRST_VGPR  # a comparison's result is scalar
    return values


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
