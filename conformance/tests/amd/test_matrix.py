"""Matrix instructions against matrix products, with layouts written down a second time here.

The functions ``..._place`` say where one element of one lane belongs, in the words of AMD's matrix
instruction calculator (i, j, k, lane, register). They share nothing with the package's reshapes.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeproof.amd.matrix import MatrixInstruction, matrix_instruction

WAVES = 18  # more than are computed at once


def operand_place(arch: str, size: int, depth: int, lane: int, element: int) -> tuple[int, int]:
    """(i or j, k) of one element of A or B."""
    if arch.startswith("gfx11"):
        return lane % 16, element
    if arch.startswith("gfx12"):
        return lane % 16, 8 * (lane // 16) + element
    per_lane = size * depth // 64
    return lane % size, per_lane * (lane // size) + element


def narrow_place(size: int, bits: int, lane: int, element: int) -> tuple[int, int]:
    """(i or j, k) for f8f6f4: 16 values, then as many again half of K further on; or 32."""
    group = lane // size
    if bits < 8:
        return lane % size, 32 * group + element
    half_of_k = 32 if size == 32 else 64
    return lane % size, half_of_k * (element >= 16) + 16 * group + element % 16


def result_place(arch: str, size: int, lane: int, register: int) -> tuple[int, int]:
    """(i, j) of one register of C or D."""
    if arch.startswith("gfx11"):
        return 2 * register + lane // 16, lane % 16
    if arch.startswith("gfx12"):
        return 8 * (lane // 16) + register, lane % 16
    if size == 16:
        return 4 * (lane // 16) + register, lane % 16
    return 8 * (register // 4) + 4 * (lane // 32) + register % 4, lane % 32


TYPES = {
    "f32": np.float32,
    "xf32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "i8": np.int8,
}
FNUZ = {"fp8": ml_dtypes.float8_e4m3fnuz, "bf8": ml_dtypes.float8_e5m2fnuz}
OCP = {"fp8": ml_dtypes.float8_e4m3fn, "bf8": ml_dtypes.float8_e5m2}
EIGHT_BITS = [f"{a}_{b}" for a in ("fp8", "bf8") for b in ("fp8", "bf8")]

# architecture, mnemonic, size of i and j, size of k, types
CASES = [
    ("gfx90a", "v_mfma_f32_32x32x2f32", 32, 2, "f32"),
    ("gfx90a", "v_mfma_f32_16x16x4f32", 16, 4, "f32"),
    ("gfx90a", "v_mfma_f32_32x32x8f16", 32, 8, "f16"),
    ("gfx90a", "v_mfma_f32_16x16x16f16", 16, 16, "f16"),
    ("gfx90a", "v_mfma_f32_32x32x8bf16_1k", 32, 8, "bf16"),
    ("gfx90a", "v_mfma_f32_16x16x16bf16_1k", 16, 16, "bf16"),
    ("gfx90a", "v_mfma_i32_32x32x8i8", 32, 8, "i8"),
    ("gfx90a", "v_mfma_i32_16x16x16i8", 16, 16, "i8"),
    ("gfx942", "v_mfma_f32_32x32x2_f32", 32, 2, "f32"),
    ("gfx942", "v_mfma_f32_16x16x4_f32", 16, 4, "f32"),
    ("gfx942", "v_mfma_f32_32x32x4_xf32", 32, 4, "xf32"),
    ("gfx942", "v_mfma_f32_16x16x8_xf32", 16, 8, "xf32"),
    ("gfx942", "v_mfma_f32_32x32x8_f16", 32, 8, "f16"),
    ("gfx942", "v_mfma_f32_16x16x16_f16", 16, 16, "f16"),
    ("gfx942", "v_mfma_f32_32x32x8_bf16", 32, 8, "bf16"),
    ("gfx942", "v_mfma_f32_16x16x16_bf16", 16, 16, "bf16"),
    ("gfx942", "v_mfma_i32_32x32x16_i8", 32, 16, "i8"),
    ("gfx942", "v_mfma_i32_16x16x32_i8", 16, 32, "i8"),
    *(("gfx942", f"v_mfma_f32_32x32x16_{types}", 32, 16, types) for types in EIGHT_BITS),
    *(("gfx942", f"v_mfma_f32_16x16x32_{types}", 16, 32, types) for types in EIGHT_BITS),
    ("gfx950", "v_mfma_f32_32x32x16_f16", 32, 16, "f16"),
    ("gfx950", "v_mfma_f32_16x16x32_f16", 16, 32, "f16"),
    ("gfx950", "v_mfma_f32_32x32x16_bf16", 32, 16, "bf16"),
    ("gfx950", "v_mfma_f32_16x16x32_bf16", 16, 32, "bf16"),
    ("gfx950", "v_mfma_f32_32x32x8_bf16", 32, 8, "bf16"),
    ("gfx950", "v_mfma_i32_32x32x32_i8", 32, 32, "i8"),
    ("gfx950", "v_mfma_i32_16x16x64_i8", 16, 64, "i8"),
    *(("gfx950", f"v_mfma_f32_32x32x16_{types}", 32, 16, types) for types in EIGHT_BITS),
    ("gfx1100", "v_wmma_f32_16x16x16_f16", 16, 16, "f16"),
    ("gfx1100", "v_wmma_f32_16x16x16_bf16", 16, 16, "bf16"),
    ("gfx1201", "v_wmma_f32_16x16x16_f16", 16, 16, "f16"),
    ("gfx1201", "v_wmma_f32_16x16x16_bf16", 16, 16, "bf16"),
    *(("gfx1201", f"v_wmma_f32_16x16x16_{types}", 16, 16, types) for types in EIGHT_BITS),
]


def known(mnemonic: str, arch: str, cbsz: int = 0, blgp: int = 0) -> MatrixInstruction:
    instruction = matrix_instruction(mnemonic, arch, cbsz=cbsz, blgp=blgp)
    assert instruction is not None
    return instruction


def dtypes(arch: str, types: str) -> tuple[type, type]:
    if types in TYPES:
        return TYPES[types], TYPES[types]
    first, second = types.split("_")
    table = FNUZ if arch == "gfx942" else OCP
    return table[first], table[second]


def lanes_of(arch: str) -> int:
    return 32 if arch.startswith(("gfx11", "gfx12")) else 64


def operand_registers(
    matrix: np.ndarray, dtype: type, arch: str, size: int, depth: int
) -> np.ndarray:
    """Registers of A ``(w, i, k)``, or of B as ``(w, j, k)``."""
    lanes = lanes_of(arch)
    per_lane = 16 if arch.startswith("gfx11") else size * depth // lanes
    held = np.empty((len(matrix), lanes, per_lane), dtype)
    for lane in range(lanes):
        for element in range(per_lane):
            outer, k = operand_place(arch, size, depth, lane, element)
            held[:, lane, element] = matrix[:, outer, k].astype(dtype)
    return np.ascontiguousarray(held.view(np.uint32).transpose(2, 0, 1))


def result_registers(matrix: np.ndarray, arch: str, size: int) -> np.ndarray:
    """Registers of C or D ``(w, i, j)``, whose elements have 4 bytes."""
    lanes = lanes_of(arch)
    registers = np.empty((size * size // lanes, len(matrix), lanes), np.uint32)
    for register in range(len(registers)):
        for lane in range(lanes):
            i, j = result_place(arch, size, lane, register)
            registers[register, :, lane] = matrix[:, i, j].copy().view(np.uint32)
    return registers


@pytest.mark.parametrize(("arch", "mnemonic", "size", "depth", "types"), CASES)
def test_products_of_integers_are_exact(
    arch: str, mnemonic: str, size: int, depth: int, types: str
) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-4, 5, (WAVES, size, depth))
    b = rng.integers(-4, 5, (WAVES, depth, size))
    element = np.int32 if types == "i8" else np.float32
    c = rng.integers(-1000, 1000, (WAVES, size, size)).astype(element)
    instruction = known(mnemonic, arch)
    first, second = dtypes(arch, types)
    registers_a = operand_registers(a, first, arch, size, depth)
    registers_b = operand_registers(b.transpose(0, 2, 1), second, arch, size, depth)
    registers_c = result_registers(c, arch, size)
    assert len(registers_a) == instruction.a.registers
    assert len(registers_b) == instruction.b.registers
    assert len(registers_c) == instruction.result.registers
    got = instruction.execute(registers_a, registers_b, registers_c)
    wanted = result_registers((a @ b + c).astype(element), arch, size)
    np.testing.assert_array_equal(got, wanted)
    in_place = registers_c.copy()
    assert instruction.execute(registers_a, registers_b, in_place, out=in_place) is in_place
    np.testing.assert_array_equal(in_place, wanted)
    constant = instruction.execute(registers_a, registers_b, 2.0)
    wanted = result_registers((a @ b + 2).astype(element), arch, size)
    np.testing.assert_array_equal(constant, wanted)


@pytest.mark.parametrize(("arch", "mnemonic", "size", "depth", "types"), CASES)
def test_any_two_lanes_of_a_matrix_differ_for_it(
    arch: str, mnemonic: str, size: int, depth: int, types: str
) -> None:
    """What this file checks is tight: a layout with two lanes swapped would fail it."""
    rng = np.random.default_rng(1)
    instruction = known(mnemonic, arch)
    first, second = dtypes(arch, types)
    shape = (1, size, depth)
    a = operand_registers(rng.integers(-4, 5, shape), first, arch, size, depth)
    b = operand_registers(rng.integers(-4, 5, shape), second, arch, size, depth)
    c_dtype = np.int32 if types == "i8" else np.float32
    c = result_registers(np.arange(size * size).reshape(1, size, size).astype(c_dtype), arch, size)
    right = instruction.execute(a, b, c)
    for _ in range(8):
        lanes = rng.choice(16 if arch.startswith("gfx11") else lanes_of(arch), 2, replace=False)
        for which in range(3):
            operands = [a.copy(), b.copy(), c.copy()]
            if np.array_equal(operands[which][..., lanes[0]], operands[which][..., lanes[1]]):
                continue
            operands[which][..., lanes] = operands[which][..., lanes[::-1]]
            if arch.startswith("gfx11") and which < 2:
                operands[which][..., lanes + 16] = operands[which][..., lanes]
            wrong = instruction.execute(operands[0], operands[1], operands[2])
            assert not np.array_equal(wrong, right), (which, lanes)


NARROW = [
    (ml_dtypes.float8_e4m3fn, 8),
    (ml_dtypes.float8_e5m2, 8),
    (ml_dtypes.float6_e2m3fn, 6),
    (ml_dtypes.float6_e3m2fn, 6),
    (ml_dtypes.float4_e2m1fn, 4),
]


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """``(w, lanes, elements)`` codes -> ``(registers, w, lanes)``, as one long number a lane."""
    waves, lanes, elements = codes.shape
    registers = np.empty((elements * bits // 32, waves, lanes), np.uint32)
    for wave in range(waves):
        for lane in range(lanes):
            number = sum(int(code) << i * bits for i, code in enumerate(codes[wave, lane]))
            for i in range(len(registers)):
                registers[i, wave, lane] = number >> 32 * i & 0xFFFFFFFF
    return registers


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("blgp", range(5))
@pytest.mark.parametrize("cbsz", range(5))
@pytest.mark.parametrize("scaled", [False, True])
def test_mixed_formats_and_their_scales(cbsz: int, blgp: int, size: int, scaled: bool) -> None:
    rng = np.random.default_rng(cbsz * 5 + blgp)
    depth = 2048 // size
    matrices, registers, scale_bytes = [], [], []
    for dtype, bits in (NARROW[cbsz], NARROW[blgp]):
        values = rng.choice([-2.0, -1.5, -1.0, 0.0, 0.5, 1.0, 3.0], (1, size, depth))
        codes = values.astype(dtype).view(np.uint8)
        held = np.empty((1, 64, 32), np.uint8)
        for lane in range(64):
            for element in range(32):
                outer, k = narrow_place(size, bits, lane, element)
                held[:, lane, element] = codes[:, outer, k]
        registers.append(packed(held, bits))
        exponents = rng.integers(-3, 4, (1, size, depth // 32))
        # Lane i + size * n has the scale of row i, values 32 n to 32 n + 31.
        scale_bytes.append((exponents.transpose(0, 2, 1).reshape(1, 64) + 127).astype(np.uint8))
        factors = np.repeat(2.0**exponents, 32, axis=2)
        matrices.append(values * factors if scaled else values)
    a, b = matrices
    c = rng.integers(-9, 9, (1, size, size)).astype(np.float32)
    name = f"v_mfma_{'scale_' if scaled else ''}f32_{size}x{size}x{depth}_f8f6f4"
    instruction = known(name, "gfx950", cbsz, blgp)
    assert (instruction.a.registers, instruction.b.registers) == tuple(map(len, registers))
    scales = {"scale_a": scale_bytes[0], "scale_b": scale_bytes[1]} if scaled else {}
    got = instruction.execute(*registers, result_registers(c, "gfx950", size), **scales)
    wanted = (a @ b.transpose(0, 2, 1) + c).astype(np.float32)
    np.testing.assert_array_equal(got, result_registers(wanted, "gfx950", size))


def test_a_scale_of_255_is_nan() -> None:
    instruction = known("v_mfma_scale_f32_32x32x64_f8f6f4", "gfx950", 4, 4)
    ones = np.full((4, 1, 64), 0x22222222, np.uint32)
    scale = np.full((1, 64), 127, np.uint8)
    plain = instruction.execute(ones, ones, 0.0, scale_a=scale, scale_b=scale)
    assert (plain.view(np.float32) == 64).all()
    scale_a = scale.copy()
    scale_a[0, 5] = 255
    got = instruction.execute(ones, ones, 0.0, scale_a=scale_a, scale_b=scale).view(np.float32)
    wanted = result_registers(np.full((1, 32, 32), 64, np.float32), "gfx950", 32).view(np.float32)
    rows = result_registers(
        np.broadcast_to(np.arange(32, dtype=np.float32)[:, None], (1, 32, 32)), "gfx950", 32
    ).view(np.float32)
    np.testing.assert_array_equal(got, np.where(rows == 5, np.nan, wanted))


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_half_precision_denormals(arch: str) -> None:
    """Kept, but for gfx90a, which takes them for zero."""
    instruction = known("v_mfma_f32_32x32x8_f16", arch)
    tiny, one = np.float16(2.0**-20).view(np.uint16), np.float16(1).view(np.uint16)
    a = np.full((2, 1, 64), int(tiny) | int(tiny) << 16, np.uint32)
    b = np.full((2, 1, 64), int(one) | int(one) << 16, np.uint32)
    got = instruction.execute(a, b, 0.0).view(np.float32)
    assert (got == (0 if arch == "gfx90a" else 2.0**-17)).all()
    # The result's own denormals.
    c = np.full((16, 1, 64), 5, np.uint32)
    zero = np.zeros((2, 1, 64), np.uint32)
    assert (instruction.execute(zero, b, c) == (0 if arch == "gfx90a" else 5)).all()


@pytest.mark.parametrize(
    ("arch", "mnemonic", "dtype"),
    [
        ("gfx942", "v_mfma_f32_32x32x8_f16", np.float16),
        ("gfx942", "v_mfma_f32_32x32x8_bf16", ml_dtypes.bfloat16),
        ("gfx1201", "v_wmma_f32_16x16x16_f16", np.float16),
    ],
)
def test_infinity_and_nan_spread_along_their_row(arch: str, mnemonic: str, dtype: type) -> None:
    size, depth = (32, 8) if "32x32" in mnemonic else (16, 16)
    a, b = np.ones((1, size, depth)), np.ones((1, size, depth))
    a[0, 1, 2], a[0, 3, 0], a[0, 4, 1] = np.inf, np.nan, -np.inf
    b[0, 6, 2] = 0
    instruction = known(mnemonic, arch)
    got = instruction.execute(
        operand_registers(a, dtype, arch, size, depth),
        operand_registers(b, dtype, arch, size, depth),
        0.0,
    )
    wanted = np.full((1, size, size), float(depth), np.float32)
    wanted[0, :, 6] = depth - 1
    wanted[0, 1], wanted[0, 3], wanted[0, 4] = np.inf, np.nan, -np.inf
    wanted[0, 1, 6] = np.nan
    np.testing.assert_array_equal(
        got.view(np.float32), result_registers(wanted, arch, size).view(np.float32)
    )


def test_fnuz_and_ocp_bytes_differ() -> None:
    one = np.full((2, 1, 64), 0x38383838, np.uint32)  # 1.0 in OCP's e4m3, 0.5 in fnuz
    for arch, wanted in (("gfx942", 16 * 0.25), ("gfx950", 16.0)):
        got = known("v_mfma_f32_32x32x16_fp8_fp8", arch).execute(one, one, 0.0)
        assert (got.view(np.float32) == wanted).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_one_rounding_of_the_exact_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=(1, 32, 8)).astype(np.float16) for _ in range(2))
    c = rng.normal(size=(1, 32, 32)).astype(np.float32)
    got = known("v_mfma_f32_32x32x8_f16", "gfx942").execute(
        operand_registers(a, np.float16, "gfx942", 32, 8),
        operand_registers(b, np.float16, "gfx942", 32, 8),
        result_registers(c, "gfx942", 32),
    )
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble).transpose(0, 2, 1) + c
    np.testing.assert_array_equal(got, result_registers(exact.astype(np.float32), "gfx942", 32))


def test_xf32_keeps_ten_bits_of_mantissa() -> None:
    instruction = known("v_mfma_f32_32x32x4_xf32", "gfx942")
    one = np.full((2, 1, 64), np.float32(1).view(np.uint32), np.uint32)
    for value, kept in (
        (1 + 2.0**-10, 1 + 2.0**-10),
        (1 + 2.0**-11, 1.0),
        (1 + 3 * 2.0**-11, 1 + 2.0**-9),
        (1 + 2.0**-11 + 2.0**-20, 1 + 2.0**-10),
        (np.inf, np.inf),
        (np.nan, np.nan),
    ):
        a = np.full((2, 1, 64), np.float32(value).view(np.uint32), np.uint32)
        got = instruction.execute(a, one, 0.0).view(np.float32)
        np.testing.assert_array_equal(got, np.full(got.shape, 4 * kept, np.float32))


def test_integer_sums_wrap() -> None:
    instruction = known("v_mfma_i32_32x32x16_i8", "gfx942")
    ones = np.full((2, 1, 64), 0x01010101, np.uint32)
    c = np.full((16, 1, 64), 0x7FFFFFFF, np.uint32)
    assert (instruction.execute(ones, ones, c) == 0x8000000F).all()


def test_rdna3_operands_must_be_the_same_in_both_half_waves() -> None:
    instruction = known("v_wmma_f32_16x16x16_f16", "gfx1100")
    a = np.zeros((8, 1, 32), np.uint32)
    a[0, 0, 3] = 1
    with pytest.raises(ValueError, match="half waves"):
        instruction.execute(a, a, 0.0)


@pytest.mark.parametrize(
    ("mnemonic", "arch", "cbsz"),
    [
        ("v_mfma_f32_32x32x4_2b_f16", "gfx942", 0),
        ("v_mfma_f32_32x32x4f16", "gfx90a", 0),
        ("v_mfma_f32_32x32x16_fp8_fp8", "gfx90a", 0),
        ("v_mfma_f32_32x32x16_f16", "gfx942", 0),
        ("v_mfma_f32_32x32x4_xf32", "gfx950", 0),
        ("v_mfma_f32_4x4x4_16b_f16", "gfx942", 0),
        ("v_mfma_f32_32x32x8_f16", "gfx942", 1),
        ("v_mfma_f32_32x32x64_f8f6f4", "gfx950", 5),
        ("v_mfma_f64_16x16x4_f64", "gfx942", 0),
        ("v_smfmac_f32_16x16x32_f16", "gfx942", 0),
        ("v_wmma_f32_16x16x16_fp8_fp8", "gfx1100", 0),
        ("v_wmma_f16_16x16x16_f16", "gfx1100", 0),
        ("v_wmma_i32_16x16x16_iu8", "gfx1201", 0),
        ("v_add_f32", "gfx942", 0),
    ],
)
def test_what_is_not_modelled_is_none(mnemonic: str, arch: str, cbsz: int) -> None:
    assert matrix_instruction(mnemonic, arch, cbsz=cbsz) is None
