"""Instructions whose operands are parts of registers: packed, mixed, SDWA, DPP, dual issue."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from moeproof.amd.instruction_formats import formats_of
from moeproof.amd.state import EXEC, FIRST_VECTOR, Waves

sys.path.insert(0, str(Path(__file__).parent))
from assembled import ARCHITECTURES, execute, execute_bytes, format_of, waves_of

V = FIRST_VECTOR
_NO_CHOICE = {"opsel": 0, "opsel_hi": 3, "opsel_hi2": 1}


def filled(family: str, *, seed: int = 0) -> Waves:
    """Waves with moderate floats in v0 to v9 and bits of any kind in s0 to s9."""
    waves = waves_of(64 if family == "cdna" else 32)
    rng = np.random.default_rng(seed)
    for register in range(10):
        waves.f32[V + register][...] = rng.standard_normal(waves.vector.shape[1:])
        waves.scalar[:, register] = rng.integers(0, 1 << 32, len(waves.scalar), np.uint32)
    return waves


def run(family: str, encoding: str, name: str, waves: Waves, **operands: int) -> None:
    known = format_of(family, encoding, name)
    execute(known, name, waves, arch=ARCHITECTURES[family], **operands)


def halves(waves: Waves, register: int, dtype: Any) -> tuple[Any, Any]:
    both = waves.vector[register].view(dtype).copy()
    return both[:, 0::2], both[:, 1::2]


def test_packed_float32_takes_either_register_of_each_source() -> None:
    waves = filled("cdna")
    values = waves.vector[:10].view(np.float32).copy()
    # Low: v0 * v3 - v4, high: v1 * v2 + v5. The destination is a source.
    run(
        "cdna",
        "VOP3P",
        "v_pk_fma_f32",
        waves,
        vdst=0,
        src0=V,
        src1=V + 2,
        src2=V + 4,
        opsel=0b010,
        opsel_hi=0b01,
        opsel_hi2=1,
        neg=0b100,
    )
    wide = values.astype(np.float64)
    assert np.array_equal(waves.f32[V], (wide[0] * wide[3] - wide[4]).astype(np.float32))
    assert np.array_equal(waves.f32[V + 1], (wide[1] * wide[2] + wide[5]).astype(np.float32))


@pytest.mark.parametrize(("name", "function"), [("mul", np.multiply), ("add", np.add)])
def test_packed_float32_with_a_scalar_and_a_constant(name: str, function: Any) -> None:
    waves = filled("cdna")
    values = waves.vector[:2].view(np.float32).copy()
    for register in (4, 5):
        waves.f32[register][...] = np.float32(register)
    operands = {"vdst": 2, "src0": V, "opsel_hi": 0b11, "opsel_hi2": 1}
    run("cdna", "VOP3P", f"v_pk_{name}_f32", waves, **operands, src1=4)
    assert np.array_equal(waves.f32[V + 2], function(values[0], np.float32(4)))
    assert np.array_equal(waves.f32[V + 3], function(values[1], np.float32(5)))
    two = 244  # the inline constant 2.0, for both
    run("cdna", "VOP3P", f"v_pk_{name}_f32", waves, **operands, src1=two)
    assert np.array_equal(waves.f32[V + 2], function(values[0], np.float32(2)))
    assert np.array_equal(waves.f32[V + 3], function(values[1], np.float32(2)))


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_packed_float16_takes_either_half_of_each_source(family: str) -> None:
    waves = filled(family)
    low0, high0 = halves(waves, 0, np.float16)
    low1, high1 = halves(waves, 1, np.float16)
    operands = {"vdst": 0, "src0": V, "src1": V + 1, "opsel": 0b01, "opsel_hi": 0b10}
    run(family, "VOP3P", "v_pk_mul_f16", waves, **operands, opsel_hi2=1, neg_hi=0b01)
    low, high = halves(waves, 0, np.float16)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(low, high0 * low1)
        np.testing.assert_array_equal(high, -low0 * high1)


@pytest.mark.parametrize("choice", range(4))
def test_packed_move_takes_either_register_of_each_source(choice: int) -> None:
    waves = filled("cdna")
    values = waves.vector[:10].copy()
    run(
        "cdna",
        "VOP3P",
        "v_pk_mov_b32",
        waves,
        vdst=2,
        src0=V,
        src1=V + 2,
        opsel=choice,
        opsel_hi=3,
    )
    # The destination is a source.
    assert np.array_equal(waves.vector[2], values[choice & 1])
    assert np.array_equal(waves.vector[3], values[2 + (choice >> 1)])


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_packed_integers(family: str) -> None:
    waves = filled(family)
    low0, high0 = halves(waves, 0, np.uint16)
    low1, high1 = halves(waves, 1, np.uint16)
    run(family, "VOP3P", "v_pk_add_u16", waves, vdst=2, src0=V, src1=V + 1, **_NO_CHOICE)
    low, high = halves(waves, 2, np.uint16)
    assert np.array_equal(low, low0 + low1)
    assert np.array_equal(high, high0 + high1)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_mixed_precision(family: str) -> None:
    """In float32: the upper half of v0 as float16, times v1, plus the lower half of v2."""
    name = "v_mad_mix" if family == "cdna" else "v_fma_mix"
    waves = filled(family)
    half = halves(waves, 0, np.float16)[1].astype(np.float64)
    addend = halves(waves, 2, np.float16)[0].astype(np.float64)
    with np.errstate(all="ignore"):
        exact = (half * waves.f32[V + 1].astype(np.float64) + addend).astype(np.float32)
        narrow = exact.astype(np.float16)
    operands = {"src0": V, "src1": V + 1, "src2": V + 2, "opsel": 0b001, "opsel_hi": 0b01}
    kept = waves.u32[V + 5].copy()
    run(family, "VOP3P", f"{name}_f32", waves, vdst=4, **operands, opsel_hi2=1)
    run(family, "VOP3P", f"{name}lo_f16", waves, vdst=5, **operands, opsel_hi2=1)
    np.testing.assert_array_equal(waves.f32[V + 4], exact)
    low, high = halves(waves, 5, np.float16)
    np.testing.assert_array_equal(low, narrow)
    assert np.array_equal(high.view(np.uint16), (kept >> 16).astype(np.uint16))
    kept = waves.u32[V + 6].copy()
    run(family, "VOP3P", f"{name}hi_f16", waves, vdst=6, **operands, opsel_hi2=1)
    low, high = halves(waves, 6, np.float16)
    np.testing.assert_array_equal(high, narrow)
    assert np.array_equal(low.view(np.uint16), kept.astype(np.uint16))


def test_sdwa_selects_bytes_and_words_of_either_kind_of_register() -> None:
    waves = filled("cdna")
    v0, s3 = waves.u32[V].copy(), waves.scalar[:, 3:4].copy()
    run(
        "cdna",
        "VOP2_SDWA",
        "v_and_b32",
        waves,
        vdst=1,
        vsrc0=0,
        src0=0xF9,
        vsrc1=3,
        s1=1,
        src0_sel=2,
        src1_sel=6,
        dst_sel=6,
    )
    assert np.array_equal(waves.u32[V + 1], (v0 >> 16 & 0xFF) & s3)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_dpp_takes_lanes_from_the_row_and_leaves_out_what_the_masks_forbid(family: str) -> None:
    name = "v_add_u32" if family == "cdna" else "v_add_nc_u32"
    waves = filled(family)
    v0, v1, v2 = (waves.u32[V + n].copy() for n in range(3))
    # row_shr:1, second bank of each row forbidden; lane 0 of a row takes 0.
    operands = {"dpp": 0x111, "bc": 1, "row_mask": 0xF, "bank_mask": 0xD}
    run(family, "VOP2_DPP16", name, waves, vdst=2, vsrc0=0, src0=0xFA, vsrc1=1, **operands)
    lane = np.arange(waves.lanes)
    moved = np.where(lane % 16 == 0, np.uint32(0), np.roll(v0, 1, axis=1))
    assert np.array_equal(waves.u32[V + 2], np.where(lane % 16 // 4 == 1, v2, moved + v1))


@pytest.mark.parametrize("family", ["rdna3", "rdna4"])
def test_dual_issue_reads_before_it_writes(family: str) -> None:
    """v0 = v1 and v1 = v0 * v2, in one instruction."""
    waves = filled(family)
    v0, v1, v2 = (waves.f32[V + n].copy() for n in range(3))
    known = next(f for f in formats_of(family) if f.encoding == "VOPD")
    fields = dict(known.definition._fields)
    opcodes = fields["opx"]._enum
    raw = known.fixed[1]
    for field, value in {
        "opx": opcodes.V_DUAL_MOV_B32.value,
        "opy": opcodes.V_DUAL_MUL_F32.value,
        "vdstx": 0,
        "vdsty": 0,  # v1: the lowest bit is the inverse of vdstx's
        "srcx0": V + 1,
        "srcy0": V,
        "vsrcy1": 2,
    }.items():
        raw |= value << fields[field].lo
    execute_bytes(raw.to_bytes(known.size, "little"), waves, arch=ARCHITECTURES[family])
    assert np.array_equal(waves.f32[V], v1)
    assert np.array_equal(waves.f32[V + 1], v0 * v2)


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("name", ["and", "or", "andn2"])
def test_saving_exec(family: str, name: str) -> None:
    bits = 64 if family == "cdna" else 32
    spelling = "and_not1" if name == "andn2" and family != "cdna" else name
    waves = filled(family)
    views = waves.u64 if bits == 64 else waves.u32
    views[EXEC][...] = np.uint64(0xF0F0F0F0F0F0F0F0) if bits == 64 else np.uint32(0xF0F0F0F0)
    waves.refresh_mask()
    before, given = views[EXEC].copy(), views[0].copy()
    run(family, "SOP1", f"s_{spelling}_saveexec_b{bits}", waves, sdst=4, ssrc0=0)
    after = {"and": given & before, "or": given | before, "andn2": given & ~before}[name]
    assert np.array_equal(views[4], before)
    assert np.array_equal(views[EXEC], after)
    assert np.array_equal(waves.scc, after != 0)
    lane = np.arange(waves.lanes)
    expected = (after >> lane.astype(after.dtype) & after.dtype.type(1)).astype(bool)
    assert np.array_equal(waves.full_mask(), expected)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_register_that_nothing_was_written_to_is_no_number(family: str) -> None:
    waves = waves_of(64 if family == "cdna" else 32)
    waves.f32[V][...] = 1
    unwritten = waves.vector[2].copy()
    run(family, "VOP2", "v_add_f32", waves, vdst=1, src0=V, vsrc1=2)
    assert np.isnan(waves.f32[V + 1]).all()
    assert np.isnan(unwritten.view(np.float16)).all()
    assert np.isnan(unwritten.view(ml_dtypes.bfloat16).astype(np.float32)).all()
    run(family, "SOP1", "s_mov_b32", waves, sdst=4, ssrc0=9)
    assert np.isnan(waves.f32[4]).all()


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_inactive_lanes_keep_their_values(family: str) -> None:
    waves = filled(family)
    v0, v1, v2 = (waves.f32[V + n].copy() for n in range(3))
    lanes = np.random.default_rng(3).integers(0, 2, v0.shape).astype(bool)
    waves.set_bools(EXEC, lanes)
    run(family, "VOP2", "v_mul_f32", waves, vdst=2, src0=V, vsrc1=1)
    assert np.array_equal(waves.f32[V + 2], np.where(lanes, v0 * v1, v2))


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_scalar_constants_of_sixteen_bits(family: str) -> None:
    waves = filled(family)
    before = waves.scalar[:, 2].copy()
    run(family, "SOPK", "s_movk_i32", waves, sdst=4, simm16=0x8001)
    assert (waves.i32[4] == -32767).all()
    name = "s_addk_co_i32" if family == "rdna4" else "s_addk_i32"
    run(family, "SOPK", name, waves, sdst=2, simm16=0xFFFE)
    assert np.array_equal(waves.scalar[:, 2], before - np.uint32(2))
    before = waves.i32[3].astype(np.int64)
    run(family, "SOPK", "s_mulk_i32", waves, sdst=3, simm16=0xFF85)
    assert np.array_equal(waves.i32[3], (before * -123).astype(np.int32))
    if family == "rdna4":
        return
    waves.i32[5][...] = np.array([[-5], [5], [-32768], [32767]])
    run(family, "SOPK", "s_cmpk_lt_i32", waves, sdst=5, simm16=0xFFFF)
    assert waves.scc[:, 0].tolist() == [True, False, True, False]
    run(family, "SOPK", "s_cmpk_lt_u32", waves, sdst=5, simm16=0xFFFF)
    assert waves.scc[:, 0].tolist() == [False, True, False, True]


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_setting_and_clearing_a_bit(family: str) -> None:
    waves = filled(family)
    places, before = waves.u32[0] % 32, waves.u32[1].copy()
    for bit, wanted in ((1, before | 1 << places), (0, before & ~(1 << places))):
        waves.u32[1][...] = before
        run(family, "SOP1", f"s_bitset{bit}_b32", waves, sdst=1, ssrc0=0)
        assert np.array_equal(waves.u32[1], wanted.astype(np.uint32))


def test_constants_of_scalar_multiply_adds() -> None:
    """RDNA4: s0 * s1 + 0.5 and s0 * 0.5 + s1."""
    waves = filled("rdna4")
    half = int(np.float32(0.5).view(np.uint32))
    for register, values in ((0, [1, 2, 3, 4]), (1, [10, 20, 30, 40])):
        waves.f32[register][...] = np.array(values, np.float32)[:, None]
    for name, wanted in (
        ("s_fmaak_f32", [10.5, 40.5, 90.5, 160.5]),
        ("s_fmamk_f32", [10.5, 21, 31.5, 42]),
    ):
        known = format_of("rdna4", "SOP2_LIT", name)
        operands = {"sdst": 4, "ssrc0": 0, "ssrc1": 1, "literal": half}
        execute(known, name, waves, arch="gfx1201", **operands)
        assert waves.f32[4][:, 0].tolist() == wanted


@pytest.mark.parametrize("family", ["rdna3", "rdna4"])
@pytest.mark.parametrize("name", ["lt_i32", "gt_i32", "eq_u32"])
def test_comparisons_that_write_exec(family: str, name: str) -> None:
    waves = filled(family)
    lanes = np.random.default_rng(3).integers(0, 2, waves.vector.shape[1:]).astype(bool)
    waves.set_bools(EXEC, lanes)
    waves.u32[V + 1][:, ::3] = waves.u32[V][:, ::3]
    compare = {"lt_i32": np.less, "gt_i32": np.greater, "eq_u32": np.equal}[name]
    wanted = lanes & compare(waves.i32[V], waves.i32[V + 1])
    run(family, "VOPC", f"v_cmpx_{name}", waves, src0=V, vsrc1=1)
    assert np.array_equal(waves.full_mask(), wanted)
    assert np.array_equal(waves.bools(EXEC), wanted)


def test_any_function_of_three_bits() -> None:
    """gfx950: the truth table is spread over the modifiers."""
    waves = filled("cdna")
    a, b, c = (waves.u32[V + n].copy() for n in range(3))
    for table, wanted in ((0x6C, _by_table(0x6C, a, b, c)), (0x96, a ^ b ^ c)):
        modifiers = {"omod": table >> 6, "abs": table >> 3 & 7, "neg": table & 7}
        sources = {"src0": V, "src1": V + 1, "src2": V + 2}
        known = format_of("cdna", "VOP3", "v_bitop3_b32")
        execute(known, "v_bitop3_b32", waves, arch="gfx950", vdst=4, **sources, **modifiers)
        assert np.array_equal(waves.u32[V + 4], wanted)
        known = format_of("cdna", "VOP3", "v_bitop3_b16")
        kept = waves.u32[V + 5].copy()
        execute(known, "v_bitop3_b16", waves, arch="gfx950", vdst=5, **sources, **modifiers)
        assert np.array_equal(waves.u16[V + 5], wanted.astype(np.uint16))
        assert np.array_equal(waves.u32[V + 5] >> 16, kept >> 16)


def _by_table(table: int, a: Any, b: Any, c: Any) -> Any:
    result = np.zeros_like(a)
    for bit in range(32):
        row = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | (c >> bit & 1)
        result |= (np.uint32(table) >> row & 1) << np.uint32(bit)
    return result


def test_accumulator_registers_follow_the_others() -> None:
    waves = filled("cdna")
    known = format_of("cdna", "VOP3P", "v_accvgpr_write")
    v1, v9 = waves.u32[V + 1].copy(), waves.u32[V + 9].copy()
    execute(
        known, "v_accvgpr_write", waves, arch="gfx942", accumulator_offset=8, vdst=2, src0=V + 1
    )
    known = format_of("cdna", "VOP3P", "v_accvgpr_read")
    execute(known, "v_accvgpr_read", waves, arch="gfx942", accumulator_offset=8, vdst=3, src0=V + 1)
    assert np.array_equal(waves.u32[V + 10], v1)  # AccVGPR 2
    assert np.array_equal(waves.u32[V + 3], v9)  # from AccVGPR 1
