"""Which registers an instruction reads and writes."""

from __future__ import annotations

from dataclasses import dataclass

from moeproof.amd.decoding import Instruction

VECTOR = 256
ACCUMULATION = 512
"""Registers are numbered as in AMD's source operands: SGPRs from 0, VGPRs from 256; AccVGPRs, which
CDNA's operands tell by a bit of their own, follow from 512."""

_VCC = frozenset({106, 107})
_SCALAR_REGISTERS = range(108)
_NO_ADDRESS = {"cdna": 127, "rdna3": 124, "rdna4": 124}
_DESTINATIONS = frozenset({"vdst", "sdst", "sdata", "vdata", "vdstx", "vdsty"})
_SMALL_FORMATS = ("VOP1", "VOP2", "VOPC")
_READS_VCC = ("v_cndmask", "v_addc_co", "v_subb_co", "v_subbrev_co", "v_add_co_ci", "v_sub_co_ci")
_GLOBAL_FORMATS = ("GLOBAL", "VGLOBAL")
_BUFFER_FORMATS = ("MUBUF", "VBUFFER")
_VECTOR_MEMORY_FORMATS = (
    *_GLOBAL_FORMATS,
    *_BUFFER_FORMATS,
    *("SCRATCH", "VSCRATCH", "FLAT", "VFLAT", "MTBUF"),
)
_DUAL_FIELDS = ("srcx0", "srcy0", "vsrcx1", "vsrcy1", "vdstx", "vdsty")


@dataclass(frozen=True)
class RegisterUse:
    """The registers of one instruction; a register that is read and written is in both."""

    reads: frozenset[int]
    writes: frozenset[int]


def register_use(instruction: Instruction, family: str) -> RegisterUse:
    """The registers that an instruction names, VCC where a format implies it.

    Not told: EXEC, M0, SCC, and destinations that are read as well, such as an FMA's sum.

    Args:
        instruction: as decoded.
        family: "cdna", "rdna3" or "rdna4".
    """
    reads: set[int] = set()
    writes: set[int] = set()
    for name, bits in _operands(instruction).items():
        if name not in instruction.fields or not _is_used(instruction, name, family):
            continue
        registers = _registers(instruction, name, bits, family)
        (writes if _is_destination(instruction, name) else reads).update(registers)
    if instruction.encoding.startswith("VOPC") and "sdst" not in instruction.fields:
        writes |= _VCC
    if _reads_vcc(instruction):
        reads |= _VCC
    return RegisterUse(frozenset(reads), frozenset(writes))


def is_vector_memory(instruction: Instruction) -> bool:
    """Whether it goes to global or scratch memory through the vector unit."""
    return instruction.encoding.startswith(_VECTOR_MEMORY_FORMATS)


def stores(instruction: Instruction) -> bool:
    """Whether a memory instruction is a store: its data is read, nothing comes back."""
    return "_store" in instruction.name or instruction.name.startswith("ds_write")


def to_lds(instruction: Instruction) -> bool:
    """Whether a load's values go to LDS, not to registers."""
    return "_lds" in instruction.name or bool(instruction.fields.get("lds"))


def returns_value(instruction: Instruction) -> bool:
    """Whether a vector memory instruction brings something back into registers."""
    if stores(instruction) or to_lds(instruction):
        return False
    if "_atomic" not in instruction.name:
        return "_load" in instruction.name
    # CDNA3 and RDNA3 ISA, "GLC"/"SC0"; RDNA4, "TH": whether an atomic returns the value before.
    fields = instruction.fields
    return bool(fields.get("glc") or fields.get("sc0") or fields.get("th", 0) & 1)


def _operands(instruction: Instruction) -> dict[str, int]:
    """Operand -> bits. Of the two halves of a VOPD, a move has no second source."""
    if "::" not in instruction.name:
        return {name: bits for name, bits in instruction.sizes.items() if name != "simm16"}
    first, second = instruction.name.split("::")
    moved = {"vsrcx1"} if "_mov_" in first else set()
    moved |= {"vsrcy1"} if "_mov_" in second else set()
    return {name: 32 for name in _DUAL_FIELDS if name not in moved}


def _is_destination(instruction: Instruction, name: str) -> bool:
    if name == "vdata" and not returns_value(instruction):
        return False
    return name in _DESTINATIONS


def _is_used(instruction: Instruction, name: str, family: str) -> bool:
    fields = instruction.fields
    if name == "addr" and instruction.encoding in _BUFFER_FORMATS:
        return bool(fields.get("offen") or fields.get("idxen"))
    if name == "soffset" and instruction.encoding == "SMEM" and family == "cdna":
        return bool(fields["soffset_en"])
    if name == "addr" and instruction.encoding in ("SCRATCH", "VSCRATCH"):
        return bool(fields.get("sve"))
    if name == "vdst" and is_vector_memory(instruction):
        return returns_value(instruction)
    if name == "vdata":
        return not to_lds(instruction)
    if name == "saddr":
        return fields[name] != _NO_ADDRESS[family]
    return True


def _registers(instruction: Instruction, name: str, bits: int, family: str) -> range | list[int]:
    value = instruction.fields[name]
    count = max(1, bits // 32)
    if name == "addr" and instruction.encoding in _GLOBAL_FORMATS:
        count = 2 if instruction.fields["saddr"] == _NO_ADDRESS[family] else 1
    if name == "addr" and instruction.encoding in _BUFFER_FORMATS:
        count = instruction.fields["offen"] + instruction.fields["idxen"]
    if instruction.name.startswith(("v_readfirstlane", "v_readlane")) and name == "vdst":
        value %= VECTOR  # a scalar register in a vector register's field
    if value < VECTOR:
        return [number for number in range(value, value + count) if number in _SCALAR_REGISTERS]
    if bits == 16 and family != "cdna" and instruction.encoding.startswith(_SMALL_FORMATS):
        value = VECTOR + (value - VECTOR) % 128  # the upper bit tells the half
    if _is_accumulation(instruction, name):
        value += ACCUMULATION - VECTOR
    return range(value, value + count)


def _is_accumulation(instruction: Instruction, name: str) -> bool:
    fields = instruction.fields
    if instruction.name.startswith("v_accvgpr"):
        other_side = "vdst" if instruction.name.startswith("v_accvgpr_read") else "src0"
        return name != other_side or instruction.name.startswith("v_accvgpr_mov")
    if "acc_cd" in fields:
        if name in ("src0", "src1"):
            return bool(fields["acc"] >> int(name[-1]) & 1)
        return bool(fields["acc_cd"])
    return bool(fields.get("acc")) and name in ("vdst", "vdata", "data", "data0", "data1")


def _reads_vcc(instruction: Instruction) -> bool:
    name = instruction.name
    if name.startswith(("v_div_fmas", "s_cbranch_vcc")):
        return True
    if "::" in name:
        return "cndmask" in name
    return instruction.encoding.startswith("VOP2") and name.startswith(_READS_VCC)
