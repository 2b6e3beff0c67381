"""Instructions whose operands are parts of registers: packed, mixed, SDWA, DPP, dual issue."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

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
@pytest.mark.parametrize("name", ["and", "or"])
def test_saving_exec(family: str, name: str) -> None:
    bits = 64 if family == "cdna" else 32
    waves = filled(family)
    views = waves.u64 if bits == 64 else waves.u32
    views[EXEC][...] = np.uint64(0xF0F0F0F0F0F0F0F0) if bits == 64 else np.uint32(0xF0F0F0F0)
    waves.refresh_mask()
    before, given = views[EXEC].copy(), views[0].copy()
    run(family, "SOP1", f"s_{name}_saveexec_b{bits}", waves, sdst=4, ssrc0=0)
    after = before & given if name == "and" else before | given
    assert np.array_equal(views[4], before)
    assert np.array_equal(views[EXEC], after)
    assert np.array_equal(waves.scc, after != 0)
    lane = np.arange(waves.lanes)
    expected = (after >> lane.astype(after.dtype) & after.dtype.type(1)).astype(bool)
    assert np.array_equal(waves.full_mask(), expected)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_inactive_lanes_keep_their_values(family: str) -> None:
    waves = filled(family)
    v0, v1, v2 = (waves.f32[V + n].copy() for n in range(3))
    lanes = np.random.default_rng(3).integers(0, 2, v0.shape).astype(bool)
    waves.set_bools(EXEC, lanes)
    run(family, "VOP2", "v_mul_f32", waves, vdst=2, src0=V, vsrc1=1)
    assert np.array_equal(waves.f32[V + 2], np.where(lanes, v0 * v1, v2))
