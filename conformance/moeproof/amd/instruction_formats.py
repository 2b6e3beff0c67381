"""The formats of AMD's instructions: which bits tell one, and where its fields lie.

The formats, their fields and the opcodes' names are tinygrad's; what it leaves out or gets wrong is
mended here, each with its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import Any

from tinygrad.renderer.amd import _load_formats
from tinygrad.renderer.amd.dsl import (
    AlignedSGPRField,
    BitField,
    EnumBitField,
    FixedBitField,
    SrcField,
    VDSTYField,
)
from tinygrad.runtime.autogen.amd.cdna.enum import MUBUFOp

# The format that tinygrad's lists leave out of RDNA.
_BUFFER_FORMATS = {"rdna3": "MUBUF", "rdna4": "VBUFFER"}

# The first half word of a scaled matrix instruction (CDNA4 ISA, "VOP3PX2"); tinygrad's format also
# matches the unscaled one, 8 bytes long, and would take the next instruction with it.
_SCALED_PRODUCT = 0xD3AC

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
# The formats whose byte offset is a signed number.
_SIGNED_OFFSET = ("GLOBAL", "SCRATCH", "SMEM", "VBUFFER", "VFLAT", "VGLOBAL", "VSCRATCH")

# What src0 is when an operand of another kind follows the instruction.
_SDWA_FOLLOWS, _DPP16_FOLLOWS, _DPP8_FOLLOWS, _LITERAL_FOLLOWS = 249, 250, (233, 234), 255
_VARIANTS = ("_LIT", "_SDWA", "_SDWA_SDST", "_DPP16", "_DPP8")

# gfx90a: the bits that tell its buffer instructions, and its packed and matrix instructions.
_BUFFER_CDNA, _PACKED_CDNA = 0b111000, 0b110100111
_INVALIDATIONS_GFX90A = (0x3E, 0x3F)
_BF16_PRODUCTS_GFX90A = range(0x63, 0x68)
_BF16_PRODUCTS_MOVED = 6
_OTHER_PRODUCTS_GFX90A = (*range(0x54, 0x58), *range(0x68, 0x6D))


@dataclass(frozen=True)
class _Field:
    """Bits `low` on: value = first + (bits << shift), of a signed number where `sign` is set."""

    name: str
    low: int
    mask: int
    first: int = 0
    shift: int = 0
    sign: int = 0

    def value(self, raw: int) -> int:
        bits = raw >> self.low & self.mask
        return (
            self.first + (bits << self.shift) if not self.sign else (bits ^ self.sign) - self.sign
        )


@dataclass(frozen=True)
class Format:
    """One format, wrapping tinygrad's class of it. `raw` is an instruction's bytes as a number."""

    definition: Any

    @cached_property
    def encoding(self) -> str:
        """The format's name, such as "VOP3_SDST"."""
        return str(self.definition.__name__)

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return int(self.definition._base_size)

    @cached_property
    def fixed(self) -> tuple[int, int]:
        """Mask and value of the bits that all instructions of the format share."""
        mask = value = 0
        for _, bits in self.definition._fields:
            if isinstance(bits, FixedBitField):
                mask |= bits.mask << bits.lo
                value |= bits.default << bits.lo
        marker = {"_SDWA": _SDWA_FOLLOWS, "_SDWA_SDST": _SDWA_FOLLOWS, "_DPP16": _DPP16_FOLLOWS}
        for suffix, src0 in marker.items():
            if self.encoding.endswith(suffix):
                return mask | 0x1FF, value | src0
        if self.encoding == "VOP3PX2":
            return mask | 0xFFFF << 16, value | _SCALED_PRODUCT << 16
        return mask, value

    @cached_property
    def _opcodes(self) -> list[tuple[int, int, dict[int, str]]]:
        """Where each opcode lies (dual issue has two), and the names of the allowed ones."""
        return [
            (
                bits.lo,
                bits.mask,
                {
                    op.value: _plain(op.name)
                    for op in bits._enum
                    if bits.allowed is None or op in bits.allowed
                },
            )
            for _, bits in self.definition._fields
            if isinstance(bits, EnumBitField)
        ]

    @cached_property
    def _fields(self) -> list[_Field]:
        return [
            self._field(name, bits)
            for name, bits in self.definition._fields
            if not isinstance(bits, (EnumBitField, FixedBitField, VDSTYField))
        ]

    def _field(self, name: str, bits: BitField) -> _Field:
        plain = _FIELD_NAMES.get(name, name)
        if isinstance(bits, SrcField):
            return _Field(plain, bits.lo, bits.mask, first=bits._valid_range[0])
        if isinstance(bits, AlignedSGPRField):
            return _Field(plain, bits.lo, bits.mask, shift=bits._align.bit_length() - 1)
        if plain == "offset" and self.encoding in _SIGNED_OFFSET:
            return _Field(plain, bits.lo, bits.mask, sign=(bits.mask + 1) >> 1)
        return _Field(plain, bits.lo, bits.mask)

    def matches(self, raw: int) -> bool:
        mask, value = self.fixed
        return raw & mask == value and all(
            raw >> low & opcode_mask in names for low, opcode_mask, names in self._opcodes
        )

    def name(self, raw: int) -> str:
        """The instruction's name; of a dual-issue instruction both, with "::" between."""
        names: list[str] = []
        for low, mask, known in self._opcodes:
            number = raw >> low & mask
            # A variant's list may be narrower than that of the format that matched.
            names.append(known.get(number) or _plain(self._enumeration(low)(number).name))
        return "::".join(names)

    def number_of(self, name: str) -> int | None:
        """The opcode of the instruction of this name; None if the format has none."""
        _, _, names = self._opcodes[0]
        numbers: dict[str, int] = {known: number for number, known in names.items()}
        return numbers.get(name)

    def _enumeration(self, low: int) -> Any:
        return next(
            bits._enum
            for _, bits in self.definition._fields
            if isinstance(bits, EnumBitField) and bits.lo == low
        )

    def field_values(self, raw: int) -> dict[str, int]:
        """The fields' values; later ones of the same name, which variants add, win."""
        values = {known.name: known.value(raw) for known in self._fields}
        if "vdstx" in values:
            # RDNA3 ISA, VOPD: the second destination's lowest bit is the inverse of the first's.
            bits = self.definition.vdsty
            values["vdsty"] = 256 + ((raw >> bits.lo & bits.mask) << 1 | ~values["vdstx"] & 1)
        return values

    def operand_bits(self, raw: int) -> dict[str, int]:
        """Bits of each operand, by the fields' names."""
        if self.name(raw).endswith("_xf32"):
            # Not in the tables, which are CDNA4's: CDNA3 ISA, V_MFMA_F32_*_XF32.
            result = 512 if "_32x32x" in self.name(raw) else 128
            return {"vdst": result, "src0": 64, "src1": 64, "src2": result}
        decoded = object.__new__(self.definition)
        decoded._raw = raw
        return {_FIELD_NAMES.get(name, name): bits for name, bits in decoded.op_bits.items()}

    def source_markers(self, raw: int) -> list[int]:
        """The values of the fields that can name a literal, or lanes from elsewhere."""
        return [
            raw >> bits.lo & bits.mask
            for _, bits in self.definition._fields
            if isinstance(bits, SrcField) and bits._valid_range[0] == 0
        ]


def _plain(name: str) -> str:
    return name.lower().removesuffix("_e32").removesuffix("_e64")


@cache
def _format(definition: Any) -> Format:
    return Format(definition)


@cache
def formats_of(family: str) -> tuple[Format, ...]:
    """The formats of "cdna", "rdna3" or "rdna4" in the order in which they are to be tried."""
    definitions = tuple(_load_formats()[family])
    if family in _BUFFER_FORMATS:
        definitions += (getattr(_definitions(family), _BUFFER_FORMATS[family]),)
    return tuple(_format(definition) for definition in definitions)


@cache
def candidates(family: str, top: int) -> tuple[Format, ...]:
    """Those of the formats that instructions with `top` as their bits 26 to 31 can have."""
    shift = 26
    return tuple(
        known
        for known in formats_of(family)
        if (known.fixed[1] >> shift ^ top) & known.fixed[0] >> shift & 0x3F == 0
    )


def _definitions(family: str) -> Any:
    return import_module(f"tinygrad.runtime.autogen.amd.{family}.ins")


def variant_of(found: Format, family: str, raw: int) -> Format:
    """The format with what follows it: a literal, or where src0's lanes come from."""
    encoding = found.encoding
    if encoding == "VOP3P" and found.name(raw).startswith("v_mfma"):
        # gfx942's xf32 products, which are not on tinygrad's list of matrix products.
        return _format(_definitions(family).VOP3P_MFMA)
    if encoding.endswith(_VARIANTS):
        return found
    suffix = _suffix(found, family, raw)
    if suffix is None:
        return found
    formats = _definitions(family)
    # A comparison in the VOP3 format has no variant of its own with DPP.
    for base in (encoding, encoding.removesuffix("_SDST")):
        if hasattr(formats, base + suffix):
            return _format(getattr(formats, base + suffix))
    return found


def _suffix(found: Format, family: str, raw: int) -> str | None:
    if any(part in found.name(raw) for part in ("fmamk", "fmaak", "madmk", "madak")):
        return "_LIT"
    markers = found.source_markers(raw)
    if _LITERAL_FOLLOWS in markers:
        return "_LIT"
    if family == "cdna":
        following = {_SDWA_FOLLOWS: "_SDWA", _DPP16_FOLLOWS: "_DPP16"}
    else:
        following = {_DPP16_FOLLOWS: "_DPP16", **dict.fromkeys(_DPP8_FOLLOWS, "_DPP8")}
    return next((following[marker] for marker in markers if marker in following), None)


def as_gfx942(raw: int) -> int | None:
    """A gfx90a instruction with the opcode that gfx942 has for the same; None if it has none.

    tinygrad's CDNA tables are those of CDNA3 and 4, which moved the bf16 products and reused the
    numbers of CDNA2's integer ones, and dropped the invalidation of the first cache (LLVM,
    VOP3PInstructions.td: V_MFMA_*BF16_1K; BUFInstructions.td: BUFFER_WBINVL1_VOL).
    """
    word = raw & 0xFFFFFFFF
    if word >> 26 == _BUFFER_CDNA and word >> 18 & 0x7F in _INVALIDATIONS_GFX90A:
        return raw & ~(0x7F << 18) | int(MUBUFOp.BUFFER_INV.value) << 18
    if word >> 23 == _PACKED_CDNA:
        number = word >> 16 & 0x7F
        if number in _OTHER_PRODUCTS_GFX90A:
            return None
        if number in _BF16_PRODUCTS_GFX90A:
            return raw - (_BF16_PRODUCTS_MOVED << 16)
    return raw
