"""Single instructions of the vector ALU, assembled by LLVM, against plain Python.

The references follow the ISA manuals' descriptions, with Python's integers and exact fractions, one
value at a time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

N = 512
WORD = 1 << 32


def signed(bits: int, width: int = 32) -> int:
    bits %= 1 << width
    return bits - (1 << width) if bits >> (width - 1) else bits


def number(bits: int) -> float:
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


def float_bits(value: Fraction | float, *, negative_zero: bool = False) -> int:
    """float32 nearest to an exact value, ties to even."""
    if isinstance(value, float) and not math.isfinite(value):
        return 0x7FC00000 if math.isnan(value) else 0x7F800000 | (value < 0) << 31
    exact = Fraction(value)
    if exact == 0:
        return (negative_zero or math.copysign(1, float(value)) < 0) << 31
    sign, magnitude = exact < 0, abs(exact)
    exponent = max(math.floor(math.log2(float(magnitude))) if float(magnitude) else -200, -126)
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while exponent > -126 and magnitude < Fraction(2) ** exponent:
        exponent -= 1
    mantissa = round(magnitude / Fraction(2) ** (exponent - 23))  # Python rounds ties to even
    bits = mantissa + ((exponent + 126) << 23)
    return min(bits, 0x7F800000) | sign << 31


def half_bits(value: float) -> int:
    with np.errstate(over="ignore"):
        return int(np.array(value).astype(np.float16).view(np.uint16))


def to_integer(value: float, low: int, high: int) -> int:
    """Toward zero, saturated; NaN is 0."""
    if math.isnan(value):
        return 0
    return max(
        low, min(high, math.trunc(value) if math.isfinite(value) else int(value > 0) * high or low)
    )


def whole(function: Callable[[float], int]) -> Callable[[int, int, int], int]:
    """A rounding to whole numbers; the sign stays on zero."""

    def rounded(a: int, b: int, c: int) -> int:
        value = number(a)
        if not math.isfinite(value):
            return a
        return float_bits(Fraction(function(value)), negative_zero=value < 0 or a >> 31 == 1)

    return rounded


def multiply_add(x: float, y: float, z: float) -> int:
    if all(map(math.isfinite, (x, y, z))):
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        if exact:
            return float_bits(exact)
        return float_bits(x * y + z)
    with np.errstate(invalid="ignore"):
        return float_bits(float(np.float64(x) * np.float64(y) + np.float64(z)))


def byte_of(value: int, selector: int) -> int:
    """v_perm_b32: bytes 0 to 7 of {a, b}, then signs, then constants."""
    if selector >= 13:
        return 0xFF
    if selector == 12:
        return 0
    if selector >= 8:
        return 0xFF * (value >> (16 * (selector - 8) + 15) & 1)
    return value >> 8 * selector & 0xFF


def low24(value: int) -> int:
    return value & 0xFFFFFF


def field(a: int, b: int, c: int) -> int:
    return a >> (b & 31) & ((1 << (c & 31)) - 1)


REFERENCES: dict[str, Callable[[int, int, int], int]] = {
    "v_cvt_f32_i32": lambda a, b, c: float_bits(Fraction(signed(a))),
    "v_cvt_f32_u32": lambda a, b, c: float_bits(Fraction(a)),
    "v_cvt_i32_f32": lambda a, b, c: to_integer(number(a), -(2**31), 2**31 - 1),
    "v_cvt_u32_f32": lambda a, b, c: to_integer(number(a), 0, WORD - 1),
    "v_cvt_f16_f32": lambda a, b, c: half_bits(number(a)),
    "v_cvt_f32_f16": lambda a, b, c: float_bits(
        struct.unpack("<e", struct.pack("<H", a & 0xFFFF))[0]
    ),
    "v_cvt_f32_ubyte0": lambda a, b, c: float_bits(Fraction(a & 0xFF)),
    "v_cvt_f32_ubyte2": lambda a, b, c: float_bits(Fraction(a >> 16 & 0xFF)),
    "v_rndne_f32": whole(round),
    "v_floor_f32": whole(math.floor),
    "v_ceil_f32": whole(math.ceil),
    "v_trunc_f32": whole(math.trunc),
    "v_fma_f32": lambda a, b, c: multiply_add(number(a), number(b), number(c)),
    "v_mul_f32": lambda a, b, c: multiply_add(number(a), number(b), -0.0),
    "v_sub_f32": lambda a, b, c: multiply_add(-number(a), 1.0, -abs(number(b))),
    "v_ldexp_f32": lambda a, b, c: (
        float_bits(
            Fraction(number(a)) * Fraction(2) ** max(-400, min(400, signed(b))),
            negative_zero=a >> 31 == 1,
        )
        if math.isfinite(number(a))
        else float_bits(number(a))
    ),
    "v_mul_hi_u32": lambda a, b, c: a * b >> 32,
    "v_mul_hi_i32": lambda a, b, c: signed(a) * signed(b) >> 32,
    "v_mul_lo_u32": lambda a, b, c: a * b,
    "v_mad_u32_u24": lambda a, b, c: low24(a) * low24(b) + c,
    "v_mad_i32_i24": lambda a, b, c: signed(a, 24) * signed(b, 24) + c,
    "v_add3_u32": lambda a, b, c: a + b + c,
    "v_lshl_add_u32": lambda a, b, c: (a << (b & 31)) + c,
    "v_add_lshl_u32": lambda a, b, c: (a + b) << (c & 31),
    "v_lshl_or_b32": lambda a, b, c: a << (b & 31) | c,
    "v_and_or_b32": lambda a, b, c: a & b | c,
    "v_or3_b32": lambda a, b, c: a | b | c,
    "v_xad_u32": lambda a, b, c: (a ^ b) + c,
    "v_bfe_u32": field,
    "v_bfe_i32": lambda a, b, c: (
        signed(signed(a) >> (b & 31) & ((1 << (c & 31)) - 1), c & 31) if c & 31 else 0
    ),
    "v_bfi_b32": lambda a, b, c: a & b | ~a & c,
    "v_alignbit_b32": lambda a, b, c: (a << 32 | b) >> (c & 31),
    "v_alignbyte_b32": lambda a, b, c: (a << 32 | b) >> 8 * (c & 3),
    "v_perm_b32": lambda a, b, c: sum(
        byte_of(a << 32 | b, c >> 8 * i & 0xFF) << 8 * i for i in range(4)
    ),
    "v_med3_i32": lambda a, b, c: sorted(map(signed, (a, b, c)))[1],
    "v_min3_u32": lambda a, b, c: min(a, b, c),
    "v_max3_i32": lambda a, b, c: max(map(signed, (a, b, c))),
    "v_bcnt_u32_b32": lambda a, b, c: a.bit_count() + b,
    "v_bfrev_b32": lambda a, b, c: int(f"{a:032b}"[::-1], 2),
    "v_ashrrev_i32": lambda a, b, c: signed(b) >> (a & 31),
    "v_lshrrev_b32": lambda a, b, c: b >> (a & 31),
    "v_lshlrev_b32": lambda a, b, c: b << (a & 31),
}


def operands(seed: int) -> np.ndarray:
    """Numbers of all sizes, floats of ordinary size and halves of them, and the awkward ones."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, WORD, N, dtype=np.uint64).astype(np.uint32)
    floats = (rng.normal(size=N) * 2.0 ** rng.integers(-6, 34, N)).astype(np.float32)
    halves = np.round(floats * 2) / np.float32(2)
    values[0::4] = floats[0::4].view(np.uint32)
    values[1::8] = halves[1::8].view(np.uint32)
    values[2::4] = rng.integers(0, 40, len(values[2::4]))
    awkward = [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 1, 0x7FFFFFFF, WORD - 1, 0x3F000000]
    values[: len(awkward) * 8 : 8] = np.roll(awkward, seed)
    return values


def is_nan(bits: int, name: str) -> bool:
    if name == "v_cvt_f16_f32":
        return (bits & 0x7FFF) > 0x7C00
    gives_float = name.startswith("v_cvt_f32") or ("cvt" not in name and name.endswith("f32"))
    return gives_float and (bits & 0x7FFFFFFF) > 0x7F800000


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "gfx1201"])
def test_each_instruction(arch: str, kernels_of: Any) -> None:
    kernels = kernels_of(arch, "instruction_kernels.py")
    names = [line.split()[0] for line in kernels.facts("instructions")["constants"]["NAMES"]]
    assert len(names) == (42 if arch == "gfx942" else 38)
    a, b, c = (operands(seed) for seed in range(3))
    out = torch.zeros(len(names), N, dtype=torch.int32)
    arguments = {
        f"{name}_ptr": torch.from_numpy(values.view(np.int32))
        for name, values in (("a", a), ("b", b), ("c", c))
    }
    kernels.run("instructions", {**arguments, "out_ptr": out}, grid=(1,))
    wrong = []
    for name, row in zip(names, out.numpy().view(np.uint32).tolist(), strict=True):
        for x, y, z, got in zip(a.tolist(), b.tolist(), c.tolist(), row, strict=True):
            wanted = REFERENCES[name](x, y, z) % WORD
            both_nan = is_nan(wanted, name) and is_nan(got, name)
            if got != wanted and not both_nan:
                wrong.append(f"{name} of {x:#x}, {y:#x}, {z:#x}: {got:#x}, not {wanted:#x}")
    assert not wrong, wrong[:10]
