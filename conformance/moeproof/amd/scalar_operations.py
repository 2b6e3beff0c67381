"""What each instruction of the scalar ALU computes: a function, its types, and SCC after it.

Names are AMD's; where generations call one thing by several names, they stand together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from moeproof.amd import float_arithmetic as floats
from moeproof.amd import integer_arithmetic as integers
from moeproof.amd.state import Array

# What SCC becomes: given the sources and the result.
Condition = Callable[..., Any]


@dataclass(frozen=True)
class ScalarOperation:
    """`function(*sources) -> result`, and SCC after it (None leaves SCC alone)."""

    function: Callable[..., Any]
    result: str
    sources: tuple[str, ...]
    condition: Condition | None = None


OPERATIONS: dict[str, ScalarOperation] = {}


def _enter(
    names: str, function: Callable[..., Any], types: str, condition: Condition | None = None
) -> None:
    result, sources = types.split("<-")
    for name in names.split():
        OPERATIONS[name] = ScalarOperation(
            function, result.strip(), tuple(sources.split()), condition
        )


def _nonzero(result: Array, *sources: Array) -> Any:
    return result != 0


def _carried(result: Array, a: Array, b: Array) -> Any:
    return result < a


def _borrowed(result: Array, a: Array, b: Array) -> Any:
    return a < b


def _overflowed_sum(result: Array, a: Array, b: Array) -> Any:
    return ((a ^ result) & (b ^ result)) < 0


def _overflowed_difference(result: Array, a: Array, b: Array) -> Any:
    return ((a ^ b) & (a ^ result)) < 0


def _first_smaller(result: Array, a: Array, b: Array) -> Array:
    return a < b


def _first_not_smaller(result: Array, a: Array, b: Array) -> Array:
    return a >= b


def _field(packed: Array) -> tuple[Array, Array]:
    """The offset and the width that s_bfe packs into one operand."""
    return packed & np.uint32(31), (packed >> np.uint32(16)) & np.uint32(0x7F)


def _extract_unsigned(a: Array, packed: Array) -> Array:
    offset, width = _field(packed)
    ones = (np.uint64(1) << width.astype(np.uint64)) - np.uint64(1)
    return ((a >> offset).astype(np.uint64) & ones).astype(np.uint32)


def _extract_signed(a: Array, packed: Array) -> Array:
    offset, width = _field(packed)
    return integers.extract_signed(a, offset, np.minimum(width, np.uint32(31)))


def _logical(bits: int) -> None:
    kind = f"u{bits}"
    two = f"{kind} <- {kind} {kind}"
    for names, function in (
        ("s_and_b{0}", np.bitwise_and),
        ("s_or_b{0}", np.bitwise_or),
        ("s_xor_b{0}", np.bitwise_xor),
        ("s_andn2_b{0} s_and_not1_b{0}", lambda a, b: a & ~b),
        ("s_orn2_b{0} s_or_not1_b{0}", lambda a, b: a | ~b),
        ("s_nand_b{0}", lambda a, b: ~(a & b)),
        ("s_nor_b{0}", lambda a, b: ~(a | b)),
        ("s_xnor_b{0}", lambda a, b: ~(a ^ b)),
    ):
        _enter(names.format(bits), function, two, _nonzero)
    _enter(f"s_mov_b{bits}", lambda a: a, f"{kind} <- {kind}")
    _enter(f"s_not_b{bits}", np.invert, f"{kind} <- {kind}", _nonzero)
    _enter(f"s_brev_b{bits}", integers.reverse_bits, f"{kind} <- {kind}")
    _enter(f"s_bcnt1_i32_b{bits}", integers.count_ones, f"u32 <- {kind}", _nonzero)
    _enter(f"s_bcnt0_i32_b{bits}", lambda a: integers.count_ones(~a), f"u32 <- {kind}", _nonzero)
    first_one = integers.first_one_from_low
    _enter(f"s_ff1_i32_b{bits} s_ctz_i32_b{bits}", first_one, f"u32 <- {kind}")
    last_one = integers.first_one_from_high
    _enter(f"s_flbit_i32_b{bits} s_clz_i32_u{bits}", last_one, f"u32 <- {kind}")
    left, right = integers.shift_left, integers.shift_right
    count = "u32" if bits == 32 else "u32as64"
    _enter(f"s_lshl_b{bits}", left, f"{kind} <- {kind} {count}", _nonzero)
    _enter(f"s_lshr_b{bits}", right, f"{kind} <- {kind} {count}", _nonzero)
    signed = f"i{bits}"

    def arithmetic(a: Array, count: Array) -> Any:
        return right(a, count.astype(a.dtype))

    _enter(f"s_ashr_i{bits}", arithmetic, f"{signed} <- {signed} {count}", _nonzero)


def _enter_integers() -> None:
    unsigned, signed = "u32 <- u32 u32", "i32 <- i32 i32"
    _enter("s_add_u32 s_add_co_u32", np.add, unsigned, _carried)
    _enter("s_sub_u32 s_sub_co_u32", np.subtract, unsigned, _borrowed)
    _enter("s_add_i32 s_add_co_i32", np.add, signed, _overflowed_sum)
    _enter("s_addk_i32 s_addk_co_i32", np.add, signed, _overflowed_sum)
    _enter("s_sub_i32 s_sub_co_i32", np.subtract, signed, _overflowed_difference)
    _enter("s_add_nc_u64 s_add_u64", np.add, "u64 <- u64 u64")
    _enter("s_sub_nc_u64 s_sub_u64", np.subtract, "u64 <- u64 u64")
    _enter("s_mul_u64", np.multiply, "u64 <- u64 u64")
    _enter("s_mul_i32 s_mulk_i32", np.multiply, signed)
    _enter("s_mul_hi_u32", integers.multiply_high_unsigned, unsigned)
    _enter("s_mul_hi_i32", integers.multiply_high_signed, signed)
    _enter("s_min_i32", np.minimum, signed, _first_smaller)
    _enter("s_max_i32", np.maximum, signed, _first_not_smaller)
    _enter("s_min_u32", np.minimum, unsigned, _first_smaller)
    _enter("s_max_u32", np.maximum, unsigned, _first_not_smaller)
    _enter("s_abs_i32", np.abs, "i32 <- i32", _nonzero)
    _enter("s_movk_i32", lambda a: a, "i32 <- i32")
    for shift in range(1, 5):
        _enter(
            f"s_lshl{shift}_add_u32",
            lambda a, b, shift=shift: (a << np.uint32(shift)) + b,
            unsigned,
            lambda result, a, b, shift=shift: (
                (a.astype(np.uint64) << np.uint64(shift)) + b >= np.uint64(1 << 32)
            ),
        )
    _enter("s_bfe_u32", _extract_unsigned, unsigned, _nonzero)
    _enter("s_bfe_i32", _extract_signed, "i32 <- i32 u32", _nonzero)
    _enter("s_bfm_b32", integers.bit_field_mask, unsigned)
    _enter("s_sext_i32_i8", lambda a: (a << 24) >> 24, "i32 <- i32")
    _enter("s_sext_i32_i16", lambda a: (a << 16) >> 16, "i32 <- i32")
    low, sixteen = np.uint32(0xFFFF), np.uint32(16)
    _enter("s_pack_ll_b32_b16", lambda a, b: (a & low) | (b << sixteen), unsigned)
    _enter("s_pack_lh_b32_b16", lambda a, b: (a & low) | (b & ~low), unsigned)
    _enter("s_pack_hh_b32_b16", lambda a, b: (a >> sixteen) | (b & ~low), unsigned)
    _enter("s_pack_hl_b32_b16", lambda a, b: (a >> sixteen) | (b << sixteen), unsigned)


def _enter_floats() -> None:
    two = "f32 <- f32 f32"
    _enter("s_add_f32", np.add, two)
    _enter("s_sub_f32", np.subtract, two)
    _enter("s_mul_f32", np.multiply, two)
    _enter("s_min_f32 s_min_num_f32", floats.minimum, two)
    _enter("s_max_f32 s_max_num_f32", floats.maximum, two)
    _enter("s_ceil_f32", np.ceil, "f32 <- f32")
    _enter("s_floor_f32", np.floor, "f32 <- f32")
    _enter("s_trunc_f32", np.trunc, "f32 <- f32")
    _enter("s_rndne_f32", np.rint, "f32 <- f32")
    _enter("s_cvt_f16_f32", lambda a: a.astype(np.float16), "f16 <- f32")
    _enter("s_cvt_f32_f16", lambda a: a.astype(np.float32), "f32 <- f16")
    _enter("s_cvt_f32_i32", lambda a: a.astype(np.float32), "f32 <- i32")
    _enter("s_cvt_f32_u32", lambda a: a.astype(np.float32), "f32 <- u32")
    _enter("s_cvt_i32_f32", floats.to_int32, "i32 <- f32")
    _enter("s_cvt_u32_f32", floats.to_uint32, "u32 <- f32")


for _bits in (32, 64):
    _logical(_bits)
_enter_integers()
_enter_floats()
