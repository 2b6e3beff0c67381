"""Integer operations of the vector and scalar ALUs that numpy does not have, on any shape.

What AMD's pseudo-code says (RDNA3 and CDNA3 ISA, "Instructions"). uint32 in and out unless the
types say otherwise; shifts take their count modulo the width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_ALL = np.uint32(0xFFFFFFFF)
_LOW5 = np.uint32(31)
_LOW6 = np.uint64(63)
_LOW24 = np.uint32(0xFFFFFF)
_32 = np.uint64(32)


def shift_left(a: Array, count: Array) -> Any:
    return a << (count & _width_mask(a))


def shift_right(a: Array, count: Array) -> Any:
    """Arithmetic where `a` is signed."""
    return a >> (count & _width_mask(a))


def _width_mask(a: Array) -> Any:
    return a.dtype.type(8 * a.dtype.itemsize - 1)


def multiply_high_unsigned(a: Array, b: Array) -> Array:
    return (np.multiply(a, b, dtype=np.uint64) >> _32).astype(np.uint32)


def multiply_high_signed(a: Array, b: Array) -> Array:
    return (np.multiply(a, b, dtype=np.int64) >> 32).astype(np.int32)


def multiply_24_unsigned(a: Array, b: Array) -> Array:
    return (a & _LOW24) * (b & _LOW24)


def multiply_high_24_unsigned(a: Array, b: Array) -> Array:
    return multiply_high_unsigned(a & _LOW24, b & _LOW24)


def low_24_signed(a: Array) -> Any:
    """int32 -> its low 24 bits, sign-extended."""
    return (a << 8) >> 8


def multiply_24_signed(a: Array, b: Array) -> Any:
    return low_24_signed(a) * low_24_signed(b)


def extract_unsigned(a: Array, offset: Array, width: Array) -> Any:
    """v_bfe_u32: `width` bits of `a` from `offset` on; a width of 32 cannot be asked for."""
    ones = (np.uint32(1) << (width & _LOW5)) - np.uint32(1)
    return (a >> (offset & _LOW5)) & ones


def extract_signed(a: Array, offset: Array, width: Array) -> Array:
    """v_bfe_i32: the same of an int32, sign-extended; 0 of no bits."""
    count = (width & _LOW5).astype(np.int32)
    field = (a >> (offset & _LOW5).astype(np.int32)) & ((np.int32(1) << count) - np.int32(1))
    sign = np.where(count > 0, np.int32(1) << np.maximum(count - 1, 0).astype(np.int32), 0)
    return ((field ^ sign) - sign).astype(np.int32)


def insert_bits(mask: Array, a: Array, b: Array) -> Array:
    """v_bfi_b32: `a` where the mask has ones, `b` elsewhere."""
    return (mask & a) | (~mask & b)


def bit_field_mask(width: Array, offset: Array) -> Array:
    """v_bfm_b32: `width` ones from bit `offset` on."""
    return ((np.uint32(1) << (width & _LOW5)) - np.uint32(1)) << (offset & _LOW5)


def align_bits(high: Array, low: Array, count: Array) -> Array:
    """v_alignbit_b32: 32 bits of high:low from bit `count` on."""
    whole = (high.astype(np.uint64) << _32) | low
    return (whole >> (count & _LOW5).astype(np.uint64)).astype(np.uint32)


def align_bytes(high: Array, low: Array, count: Array) -> Array:
    """v_alignbyte_b32: 32 bits of high:low from byte `count` on."""
    return align_bits(high, low, (count & np.uint32(3)) * np.uint32(8))


def permute_bytes(high: Array, low: Array, selector: Array) -> Any:
    """v_perm_b32: each byte of `selector` names a byte of high:low, a sign, 0 or 0xff."""
    whole = (high.astype(np.uint64) << _32) | low
    result: Any = np.uint32(0)
    for position in range(4):
        chosen = (selector >> np.uint32(8 * position)) & np.uint32(0xFF)
        # 8 to 11 repeat the sign of bytes 1, 3, 5 and 7.
        sign_of = ((chosen & np.uint32(3)) * np.uint32(2) + np.uint32(1)).astype(np.uint64)
        source = np.where(chosen < 8, chosen.astype(np.uint64), sign_of)
        byte = (whole >> (source * np.uint64(8))).astype(np.uint32) & np.uint32(0xFF)
        sign = np.where(byte >= 0x80, np.uint32(0xFF), np.uint32(0))
        byte = np.select(
            [chosen < 8, chosen < 12, chosen == 12], [byte, sign, np.uint32(0)], np.uint32(0xFF)
        ).astype(np.uint32)
        result = result | (byte << np.uint32(8 * position))
    return result


def ternary_logic(a: Array, b: Array, c: Array, table: int) -> Array:
    """v_bitop3: bit 4a + 2b + c of `table`, for each bit position."""
    result = np.zeros_like(a & b & c)
    for row in range(8):
        if table >> row & 1:
            result = result | (
                (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
            )
    return result


def count_ones(a: Array) -> Array:
    return np.bitwise_count(a).astype(np.uint32)


def reverse_bits(a: Array) -> Array:
    octets = np.ascontiguousarray(a.reshape(*a.shape, 1)).view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, bitorder="little")
    return np.packbits(bits[..., ::-1], axis=-1, bitorder="little").view(a.dtype)[..., 0]


def first_one_from_low(a: Array) -> Array:
    """v_ffbl_b32, s_ff1_i32: index of the lowest one; all ones of 0."""
    lowest = a & (~a + a.dtype.type(1))
    index = np.bitwise_count(lowest - a.dtype.type(1)).astype(np.uint32)
    return np.where(a == 0, _ALL, index)


def first_one_from_high(a: Array) -> Array:
    """v_ffbh_u32, s_flbit_i32: number of zeros above the highest one; all ones of 0."""
    return np.where(a == 0, _ALL, _leading_zeros(a))


def leading_zeros(a: Array) -> Array:
    """As `first_one_from_high`, but the width of 0."""
    return _leading_zeros(a)


def _leading_zeros(a: Array) -> Array:
    width = 8 * a.dtype.itemsize
    smeared = a
    for step in (1, 2, 4, 8, 16, 32)[: width.bit_length() - 1]:
        smeared = smeared | (smeared >> a.dtype.type(step))
    return (width - np.bitwise_count(smeared).astype(np.int64)).astype(np.uint32)


def first_sign_change(a: Array) -> Array:
    """v_ffbh_i32, s_flbit_i32_i32: number of bits above the first that differs from the sign."""
    unsigned = np.where(a < 0, ~a, a).view(np.dtype(f"u{a.dtype.itemsize}"))
    return np.where(unsigned == 0, _ALL, _leading_zeros(unsigned))


def add_saturated_unsigned(a: Array, b: Array) -> Array:
    total = a + b
    return np.where(total < a, np.iinfo(a.dtype).max, total).astype(a.dtype)


def subtract_saturated_unsigned(a: Array, b: Array) -> Array:
    return np.where(a < b, a.dtype.type(0), a - b)


def sum_of_absolute_differences(a: Array, b: Array, c: Array) -> Array:
    """v_sad_u32."""
    return np.where(a > b, a - b, b - a) + c


def median_of(a: Array, b: Array, c: Array) -> Array:
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
