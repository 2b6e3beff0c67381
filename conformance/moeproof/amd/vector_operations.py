"""What each instruction of the vector ALU computes: a function, and the types it reads and writes.

Names are AMD's without encoding suffix; where generations call one thing by several names, they
stand together. How operands are fetched and results are stored is `vector_alu`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from moeproof.amd import float_arithmetic as floats
from moeproof.amd import formats
from moeproof.amd import integer_arithmetic as integers


@dataclass(frozen=True)
class Operation:
    """`function(*sources) -> result`; types as in `state.Waves`, such as "f32".

    accumulates: the destination is the last source as well.
    """

    function: Callable[..., Any]
    result: str
    sources: tuple[str, ...]
    accumulates: bool = False


OPERATIONS: dict[str, Operation] = {}


def _enter(
    names: str, function: Callable[..., Any], types: str, *, accumulates: bool = False
) -> None:
    """types: "result <- source source"."""
    result, sources = types.split("<-")
    for name in names.split():
        OPERATIONS[name] = Operation(
            function, result.strip(), tuple(sources.split()), accumulates=accumulates
        )


def reversed_operands(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its two operands exchanged: the "rev" instructions."""
    return lambda a, b: function(b, a)


def _chain(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    """second(first(a, b), c)."""
    return lambda a, b, c: second(first(a, b), c)


def _copy(a: Any) -> Any:
    return a


def _enter_floats() -> None:
    for kind, fma in (("f16", floats.fma16), ("f32", floats.fma32), ("f64", floats.fma64)):
        two, three = f"{kind} <- {kind} {kind}", f"{kind} <- {kind} {kind} {kind}"
        _enter(f"v_add_{kind}", np.add, two)
        _enter(f"v_sub_{kind}", np.subtract, two)
        _enter(f"v_subrev_{kind}", reversed_operands(np.subtract), two)
        _enter(f"v_mul_{kind}", np.multiply, two)
        _enter(f"v_min_{kind} v_min_num_{kind}", floats.minimum, two)
        _enter(f"v_max_{kind} v_max_num_{kind}", floats.maximum, two)
        _enter(f"v_minimum_{kind}", floats.ieee_minimum, two)
        _enter(f"v_maximum_{kind}", floats.ieee_maximum, two)
        _enter(f"v_fma_{kind}", fma, three)
        _enter(f"v_fmac_{kind}", fma, three, accumulates=True)
        _enter(f"v_fract_{kind}", floats.fraction, f"{kind} <- {kind}")
        _enter(f"v_floor_{kind}", np.floor, f"{kind} <- {kind}")
        _enter(f"v_ceil_{kind}", np.ceil, f"{kind} <- {kind}")
        _enter(f"v_trunc_{kind}", np.trunc, f"{kind} <- {kind}")
        _enter(f"v_rndne_{kind}", np.rint, f"{kind} <- {kind}")
        _enter(f"v_frexp_mant_{kind}", floats.mantissa, f"{kind} <- {kind}")
    low, high, less, more = "f32 <- f32 f32 f32", "f32 <- f32", floats.minimum, floats.maximum
    _enter("v_fmaak_f32 v_fmamk_f32 v_madak_f32 v_madmk_f32", floats.fma32, low)
    _enter("v_min3_f32 v_min3_num_f32", _chain(less, less), low)
    _enter("v_max3_f32 v_max3_num_f32", _chain(more, more), low)
    _enter("v_minimum3_f32", _chain(floats.ieee_minimum, floats.ieee_minimum), low)
    _enter("v_maximum3_f32", _chain(floats.ieee_maximum, floats.ieee_maximum), low)
    _enter("v_minmax_f32 v_minmax_num_f32", _chain(less, more), low)
    _enter("v_maxmin_f32 v_maxmin_num_f32", _chain(more, less), low)
    _enter("v_med3_f32 v_med3_num_f32", floats.median, low)
    _enter("v_exp_f32", floats.exp2, high)
    _enter("v_log_f32", floats.log2, high)
    _enter("v_rcp_f32 v_rcp_iflag_f32 v_s_rcp_f32", floats.reciprocal, high)
    _enter("v_rsq_f32 v_s_rsq_f32", floats.reciprocal_square_root, high)
    _enter("v_sqrt_f32 v_s_sqrt_f32", np.sqrt, high)
    _enter("v_sin_f32", floats.sine, high)
    _enter("v_cos_f32", floats.cosine, high)
    _enter("v_s_exp_f32", floats.exp2, high)
    _enter("v_s_log_f32", floats.log2, high)
    _enter("v_ldexp_f32", floats.load_exponent, "f32 <- f32 i32")
    _enter("v_ldexp_f64", floats.load_exponent, "f64 <- f64 i32")
    _enter("v_frexp_exp_i32_f32", floats.exponent32, "i32 <- f32")
    _enter("v_frexp_exp_i32_f64", floats.exponent32, "i32 <- f64")
    _enter("v_div_fixup_f32", floats.division_fixup, low)


def _enter_conversions() -> None:
    _enter("v_cvt_f32_f16", lambda a: a.astype(np.float32), "f32 <- f16")
    _enter("v_cvt_f16_f32", lambda a: a.astype(np.float16), "f16 <- f32")
    _enter("v_cvt_f64_f32", lambda a: a.astype(np.float64), "f64 <- f32")
    _enter("v_cvt_f32_f64", lambda a: a.astype(np.float32), "f32 <- f64")
    for kind in ("i32", "u32"):
        _enter(f"v_cvt_f32_{kind}", lambda a: a.astype(np.float32), f"f32 <- {kind}")
        _enter(f"v_cvt_f64_{kind}", lambda a: a.astype(np.float64), f"f64 <- {kind}")
    for kind in ("i16", "u16"):
        _enter(f"v_cvt_f16_{kind}", lambda a: a.astype(np.float16), f"f16 <- {kind}")
    for source in ("f32", "f64"):
        _enter(f"v_cvt_i32_{source}", floats.to_int32, f"i32 <- {source}")
        _enter(f"v_cvt_u32_{source}", floats.to_uint32, f"u32 <- {source}")
    _enter("v_cvt_i16_f16", floats.to_int16, "i16 <- f16")
    _enter("v_cvt_u16_f16", floats.to_uint16, "u16 <- f16")
    _enter("v_cvt_i32_i16", lambda a: a.astype(np.int32), "i32 <- i16")
    _enter("v_cvt_u32_u16", lambda a: a.astype(np.uint32), "u32 <- u16")
    for byte in range(4):
        shift = np.uint32(8 * byte)
        _enter(
            f"v_cvt_f32_ubyte{byte}",
            lambda a, shift=shift: (a >> shift & np.uint32(0xFF)).astype(np.float32),
            "f32 <- u32",
        )
    _enter("v_pack_b32_f16", _pack16, "u32 <- u16 u16")
    two = "u32 <- f32 f32"
    _enter("v_cvt_pk_bf16_f32", _packed(formats.f32_to_bf16), two)
    _enter("v_cvt_pk_f16_f32", _packed(formats.f32_to_f16), two)
    _enter(
        "v_cvt_pkrtz_f16_f32 v_cvt_pk_rtz_f16_f32",
        _packed(formats.f32_to_f16_toward_zero),
        two,
    )
    _enter("v_cvt_pk_i16_i32", _packed(lambda a: np.clip(a, -32768, 32767)), "u32 <- i32 i32")
    _enter("v_cvt_pk_u16_u32", _packed(lambda a: np.minimum(a, 65535)), "u32 <- u32 u32")


def _pack16(low: Any, high: Any) -> Any:
    return low.astype(np.uint32) | (high.astype(np.uint32) << np.uint32(16))


def _packed(convert: Callable[[Any], Any]) -> Callable[..., Any]:
    """Converts two sources to 16 bits each, the first one into the low half."""

    def pack(a: Any, b: Any) -> Any:
        return _pack16(*(_bits16(convert(np.asarray(value))) for value in (a, b)))

    return pack


def _bits16(value: Any) -> Any:
    if value.dtype == np.float16:
        return np.ascontiguousarray(value).view(np.uint16)
    return value.astype(np.uint16)


def _enter_integers() -> None:
    one, two, three = "u32 <- u32", "u32 <- u32 u32", "u32 <- u32 u32 u32"
    add, left = np.add, integers.shift_left
    _enter("v_mov_b32", _copy, one)
    _enter("v_mov_b64", _copy, "u64 <- u64")
    _enter("v_mov_b16", _copy, "u16 <- u16")
    _enter("v_not_b32", np.invert, one)
    _enter("v_not_b16", np.invert, "u16 <- u16")
    _enter("v_bfrev_b32", integers.reverse_bits, one)
    _enter("v_ffbh_u32 v_clz_i32_u32", integers.first_one_from_high, one)
    _enter("v_ffbl_b32 v_ctz_i32_b32", integers.first_one_from_low, one)
    _enter("v_ffbh_i32 v_cls_i32", integers.first_sign_change, "u32 <- i32")
    _enter("v_bcnt_u32_b32", lambda a, b: integers.count_ones(a) + b, two)
    _enter("v_add_u32 v_add_nc_u32", np.add, two)
    _enter("v_sub_u32 v_sub_nc_u32", np.subtract, two)
    _enter("v_subrev_u32 v_subrev_nc_u32", reversed_operands(np.subtract), two)
    _enter("v_add_nc_i32 v_add_i32", np.add, "i32 <- i32 i32")
    _enter("v_sub_nc_i32 v_sub_i32", np.subtract, "i32 <- i32 i32")
    _enter("v_add3_u32", _chain(add, add), three)
    _enter("v_lshl_add_u32", _chain(left, add), three)
    _enter("v_add_lshl_u32", _chain(add, left), three)
    _enter("v_lshl_or_b32", _chain(left, np.bitwise_or), three)
    _enter("v_and_or_b32", _chain(np.bitwise_and, np.bitwise_or), three)
    _enter("v_or3_b32", _chain(np.bitwise_or, np.bitwise_or), three)
    _enter("v_xor3_b32", _chain(np.bitwise_xor, np.bitwise_xor), three)
    _enter("v_xad_u32", _chain(np.bitwise_xor, add), three)
    _enter("v_lshl_add_u64", _chain(left, add), "u64 <- u64 u32as64 u64")
    for kind, function in (
        ("and", np.bitwise_and),
        ("or", np.bitwise_or),
        ("xor", np.bitwise_xor),
    ):
        _enter(f"v_{kind}_b32", function, two)
        _enter(f"v_{kind}_b16", function, "u16 <- u16 u16")
    _enter("v_xnor_b32", lambda a, b: ~(a ^ b), two)
    for bits in (16, 32, 64):
        count = f"u{bits}" if bits < 64 else "u32as64"
        unsigned, signed = f"u{bits} <- {count} u{bits}", f"i{bits} <- {count} i{bits}"
        _enter(f"v_lshlrev_b{bits}", reversed_operands(left), unsigned)
        _enter(f"v_lshrrev_b{bits}", reversed_operands(integers.shift_right), unsigned)
        _enter(f"v_ashrrev_i{bits}", _arithmetic_shift_reversed, signed)
    _enter("v_mul_lo_u32 v_mul_lo_i32", np.multiply, two)
    _enter("v_mul_hi_u32", integers.multiply_high_unsigned, two)
    _enter("v_mul_hi_i32", integers.multiply_high_signed, "i32 <- i32 i32")
    _enter("v_mul_u32_u24", integers.multiply_24_unsigned, two)
    _enter("v_mul_hi_u32_u24", integers.multiply_high_24_unsigned, two)
    _enter("v_mul_i32_i24", integers.multiply_24_signed, "i32 <- i32 i32")
    _enter("v_mad_u32_u24", _chain(integers.multiply_24_unsigned, add), three)
    _enter("v_mad_i32_i24", _chain(integers.multiply_24_signed, add), "i32 <- i32 i32 i32")
    _enter("v_mad_u32_u16", lambda a, b, c: a.astype(np.uint32) * b + c, "u32 <- u16 u16 u32")
    for kind, unsigned in (("u32", "u32"), ("i32", "i32"), ("u16", "u16"), ("i16", "i16")):
        couple, triple = f"{unsigned} <- {kind} {kind}", f"{unsigned} <- {kind} {kind} {kind}"
        _enter(f"v_min_{kind}", np.minimum, couple)
        _enter(f"v_max_{kind}", np.maximum, couple)
        _enter(f"v_min3_{kind}", _chain(np.minimum, np.minimum), triple)
        _enter(f"v_max3_{kind}", _chain(np.maximum, np.maximum), triple)
        _enter(f"v_med3_{kind}", integers.median_of, triple)
        _enter(f"v_minmax_{kind}", _chain(np.minimum, np.maximum), triple)
        _enter(f"v_maxmin_{kind}", _chain(np.maximum, np.minimum), triple)
    for kind in ("u16", "i16"):
        couple = f"{kind} <- {kind} {kind}"
        _enter(f"v_add_{kind} v_add_nc_{kind}", np.add, couple)
        _enter(f"v_sub_{kind} v_sub_nc_{kind}", np.subtract, couple)
        _enter(f"v_subrev_{kind}", reversed_operands(np.subtract), couple)
    _enter("v_mul_lo_u16", np.multiply, "u16 <- u16 u16")
    _enter("v_mad_u16", _chain(np.multiply, add), "u16 <- u16 u16 u16")
    _enter("v_bfe_u32", integers.extract_unsigned, three)
    _enter("v_bfe_i32", integers.extract_signed, "i32 <- i32 u32 u32")
    _enter("v_bfi_b32", integers.insert_bits, three)
    _enter("v_bfm_b32", integers.bit_field_mask, two)
    _enter("v_alignbit_b32", integers.align_bits, three)
    _enter("v_alignbyte_b32", integers.align_bytes, three)
    _enter("v_perm_b32", integers.permute_bytes, three)
    _enter("v_sad_u32", integers.sum_of_absolute_differences, three)


def _arithmetic_shift_reversed(count: Any, a: Any) -> Any:
    return integers.shift_right(a, count.astype(a.dtype))


_enter_floats()
_enter_conversions()
_enter_integers()
