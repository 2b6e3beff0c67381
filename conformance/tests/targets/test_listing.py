"""Loops, and what the two vendors' instructions are taken for."""

from __future__ import annotations

import pytest

from moeproof.targets.gcn import Gcn, read_assembly
from moeproof.targets.instruction_set import InstructionSet, MemoryLoad
from moeproof.targets.listing import Instruction, Listing, Loop, read_listing
from moeproof.targets.sass import Sass

_METADATA = """
	.amdgpu_metadata
    .agpr_count:     16
    .private_segment_fixed_size: 8
    .sgpr_count:     34
    .sgpr_spill_count: 1
    .vgpr_count:     128
    .vgpr_spill_count: 2
"""
_ASSEMBLY = f"""
	.text
kernel:                                 ; @kernel
; %bb.0:
	s_load_dwordx2 s[2:3], s[0:1], 0x0
	s_waitcnt lgkmcnt(0)
.LBB0_1:                                ; =>This Inner Loop Header: Depth=1
	v_mfma_f32_32x32x8_bf16 v[48:63], v[120:121], v[124:125], v[48:63]
	buffer_store_dword v1, off, s[0:3], 0 offset:4 ; 4-byte Folded Spill
	s_cbranch_scc1 .LBB0_1
	s_endpgm
{_METADATA}"""


def _plain(*opcodes: str) -> list[Instruction | str]:
    """Instructions; ``label:`` is a label, ``>label`` a branch."""
    lines: list[Instruction | str] = []
    for text in opcodes:
        if text.endswith(":"):
            lines.append(text[:-1])
        elif text.startswith(">"):
            lines.append(Instruction("BRA", "", label=text[1:]))
        else:
            lines.append(Instruction(text, ""))
    return lines


def _nested() -> Listing:
    return read_listing(
        _plain("A", "outer:", "B", "inner:", "HMMA.16816", ">inner", "C", ">outer", ">end", "end:")
    )


def test_loops_are_backward_branches() -> None:
    listing = _nested()
    assert listing.loops == (Loop(1, 5), Loop(2, 3))
    assert listing.innermost_loops == (Loop(2, 3),)


def test_two_branches_back_are_one_loop() -> None:
    listing = read_listing(_plain("top:", "A", ">top", "B", ">top"))
    assert listing.loops == (Loop(0, 3),)


def test_main_loop_has_the_most_matrix_instructions() -> None:
    listing = read_listing(_plain("a:", "HMMA", ">a", "b:", "HMMA", "HMMA", ">b"))
    assert listing.loop_with_most(lambda i: i.opcode == "HMMA") == Loop(2, 4)
    assert listing.loop_with_most(lambda i: i.opcode == "HGMMA") is None


def test_assembly_is_read() -> None:
    listing, usage = read_assembly(_ASSEMBLY)
    assert [instruction.opcode for instruction in listing.instructions] == [
        *("s_load_dwordx2", "s_waitcnt", "v_mfma_f32_32x32x8_bf16", "buffer_store_dword"),
        *("s_cbranch_scc1", "s_endpgm"),
    ]
    assert listing.loops == (Loop(2, 4),)
    assert [Gcn().spills(instruction) for instruction in listing.instructions].index(True) == 3
    assert usage.vector_registers == 128
    assert usage.accumulation_registers == 16
    assert usage.scratch_bytes == 8


@pytest.mark.parametrize(
    ("questions", "opcode", "path", "products"),
    [
        (Sass(), "HMMA.16816.F32.BF16", "mma.sync", 16 * 8 * 16),
        (Sass(), "HMMA.1688.F32.TF32", "mma.sync", 16 * 8 * 8),
        (Sass(), "QMMA.16832.F32.E4M3.E4M3", "mma.sync", 16 * 8 * 32),
        (Sass(), "HGMMA.64x128x16.F32.BF16", "wgmma", 64 * 128 * 16),
        (Sass(), "UTCHMMA", "tcgen05", None),
        (Sass(), "FFMA", None, None),
        (Gcn(), "v_mfma_f32_32x32x8_bf16", "mfma", 32 * 32 * 8),
        (Gcn(), "v_mfma_f32_32x32x16_fp8_fp8", "mfma", 32 * 32 * 16),
        (Gcn(), "v_mfma_f32_4x4x4_16b_bf16", "mfma", 4 * 4 * 4 * 16),
        (Gcn(), "v_mfma_scale_f32_32x32x64_f8f6f4", "mfma", 32 * 32 * 64),
        (Gcn(), "v_wmma_f32_16x16x16_bf16", "wmma", 16 * 16 * 16),
        (Gcn(), "v_fma_f32", None, None),
    ],
)
def test_matrix_instructions(
    questions: InstructionSet, opcode: str, path: str | None, products: int | None
) -> None:
    instruction = Instruction(opcode, "")
    assert questions.matrix_path(instruction) == path
    assert questions.matrix_products(instruction) == products


@pytest.mark.parametrize(
    ("questions", "opcode", "operands", "load"),
    [
        (
            Sass(),
            "LDG.E.128.CONSTANT",
            "R12, desc[UR4][R2.64]",
            MemoryLoad(16, "registers", frozenset({"R12", "R13", "R14", "R15"})),
        ),
        (Sass(), "LDG.E.U16", "R7, [R2.64]", MemoryLoad(2, "registers", frozenset({"R7"}))),
        (Sass(), "LDGSTS.E.BYPASS.LTC128B.128", "[R1], [R2]", MemoryLoad(16, "cp.async")),
        (Sass(), "UTMALDG.2D", "[UR8], [UR4]", MemoryLoad(0, "TMA")),
        (Sass(), "LDS.128", "R4, [R1]", None),
        (
            Gcn(),
            "buffer_load_dwordx4",
            "v[4:7], v3, s[4:7], 0 offen",
            MemoryLoad(16, "registers", frozenset({"v4", "v5", "v6", "v7"})),
        ),
        (
            Gcn(),
            "global_load_b64",
            "v[4:5], v[2:3], off",
            MemoryLoad(8, "registers", frozenset({"v4", "v5"})),
        ),
        (
            Gcn(),
            "buffer_load_ushort",
            "v9, v3, s[4:7], 0",
            MemoryLoad(2, "registers", frozenset({"v9"})),
        ),
        (Gcn(), "global_load_lds_dwordx4", "v[2:3], off", MemoryLoad(16, "LDS")),
        (Gcn(), "buffer_load_dword", "v3, s[4:7], 0 offen lds", MemoryLoad(4, "LDS")),
        (Gcn(), "s_load_dwordx4", "s[0:3], s[4:5], 0x0", None),
    ],
)
def test_global_loads(
    questions: InstructionSet, opcode: str, operands: str, load: MemoryLoad | None
) -> None:
    assert questions.global_load(Instruction(opcode, operands)) == load


@pytest.mark.parametrize(
    ("questions", "opcode", "width"),
    [
        (Sass(), "LDS.128", 16),
        (Sass(), "LDS.U16", 2),
        (Sass(), "LDSM.16.M88.4", 16),
        (Sass(), "LDSM.16.M88", 4),
        (Gcn(), "ds_read_b128", 16),
        (Gcn(), "ds_read2st64_b64", 16),
        (Gcn(), "ds_load_2addr_stride64_b32", 8),
        (Gcn(), "ds_read_b64_tr_b16", 8),
        (Gcn(), "ds_write_b64", None),
    ],
)
def test_shared_loads(questions: InstructionSet, opcode: str, width: int | None) -> None:
    assert questions.shared_load_width(Instruction(opcode, "")) == width


@pytest.mark.parametrize(
    ("questions", "opcode", "wide"),
    [
        (Sass(), "IADD3.X", True),
        (Sass(), "LEA.HI.X.SX32", True),
        (Sass(), "IMAD.WIDE.U32", True),
        (Sass(), "IMAD.MOV.U32", False),
        (Sass(), "IADD3", False),
        (Gcn(), "v_lshl_add_u64", True),
        (Gcn(), "s_addc_u32", True),
        (Gcn(), "v_add_u32_e32", False),
    ],
)
def test_wide_addresses(questions: InstructionSet, opcode: str, wide: bool) -> None:
    assert questions.wide_address(Instruction(opcode, "")) is wide
