"""What instructions compute, one value at a time, in plain Python integers and numpy scalars.

Written from the ISA manuals, without the emulator's modules: `VECTORS` is what its steps are held
against. Sources and results are bit patterns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

M32, M64 = (1 << 32) - 1, (1 << 64) - 1


@dataclass(frozen=True)
class Vector:
    """`result(*sources) -> bits`; widths in bits. scc, carry: what else it writes, one bit.

    Both may take one more source: SCC before, or the lane's bit of the carry-in. ulps: how far an
    approximated float32 may be off.
    """

    widths: tuple[int, ...]
    width: int
    result: Callable[..., int] | None
    scc: Callable[..., bool] | None = None
    carry: Callable[..., bool] | None = None
    carry_in: bool = False
    kinds: str = ""
    ulps: int = 0
    accumulates: bool = False


VECTORS: dict[str, Vector] = {}


def _enter(names: str, widths: str, result: Callable[..., int] | None, **more: Any) -> None:
    """widths: "result <- source source"."""
    width, sources = widths.split("<-")
    for name in names.split():
        VECTORS[name] = Vector(tuple(int(w) for w in sources.split()), int(width), result, **more)


def signed(bits: int, width: int = 32) -> int:
    return bits - (1 << width) if bits >> (width - 1) else bits


def f32(bits: int) -> np.float32:
    return np.uint32(bits).view(np.float32)


def b32(value: Any) -> int:
    return int(np.float32(value).view(np.uint32))


def f16(bits: int) -> np.float16:
    return np.uint16(bits & 0xFFFF).view(np.float16)


def b16(value: Any) -> int:
    return int(np.float16(value).view(np.uint16))


def bf16_bits(bits: int) -> int:
    """float32 bits to bfloat16's, to nearest even."""
    if math.isnan(f32(bits)):
        return bits >> 16 | 0x40
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def fused(a: Any, b: Any, c: Any) -> np.longdouble:
    return np.longdouble(a) * np.longdouble(b) + np.longdouble(c)


def _nonzero(function: Callable[..., int]) -> Callable[..., bool]:
    return lambda *sources: function(*sources) != 0


def _logical(names: str, widths: str, function: Callable[..., int]) -> None:
    _enter(names, widths, function, scc=_nonzero(function))


def _scalar() -> None:
    two, wide = "32 <- 32 32", "64 <- 64 64"
    for mask, types, width in ((M32, two, 32), (M64, wide, 64)):
        _logical(f"s_and_b{width}", types, lambda a, b: a & b)
        _logical(f"s_or_b{width}", types, lambda a, b: a | b)
        _logical(f"s_xor_b{width}", types, lambda a, b: a ^ b)
        _logical(f"s_andn2_b{width} s_and_not1_b{width}", types, lambda a, b, m=mask: a & ~b & m)
        _logical(f"s_orn2_b{width} s_or_not1_b{width}", types, lambda a, b, m=mask: (a | ~b) & m)
        _enter(f"s_mov_b{width}", f"{width} <- {width}", lambda a: a)
        _logical(f"s_not_b{width}", f"{width} <- {width}", lambda a, m=mask: ~a & m)
        _enter(
            f"s_cselect_b{width}",
            types,
            lambda a, b, scc: a if scc else b,
            scc=lambda a, b, scc: scc,
        )
        shifted = f"{width} <- {width} 32"
        _logical(f"s_lshl_b{width}", shifted, lambda a, n, w=width, m=mask: a << n % w & m)
        _logical(f"s_lshr_b{width}", shifted, lambda a, n, w=width: a >> n % w)
        _logical(
            f"s_ashr_i{width}", shifted, lambda a, n, w=width, m=mask: signed(a, w) >> n % w & m
        )
    overflow = lambda exact: not -(2**31) <= exact < 2**31  # noqa: E731
    _enter(
        "s_add_u32 s_add_co_u32",
        two,
        lambda a, b: a + b & M32,
        scc=lambda a, b: a + b > M32,
    )
    _enter("s_sub_u32 s_sub_co_u32", two, lambda a, b: a - b & M32, scc=lambda a, b: b > a)
    _enter(
        "s_add_i32 s_add_co_i32",
        two,
        lambda a, b: a + b & M32,
        scc=lambda a, b: overflow(signed(a) + signed(b)),
    )
    _enter(
        "s_sub_i32 s_sub_co_i32",
        two,
        lambda a, b: a - b & M32,
        scc=lambda a, b: overflow(signed(a) - signed(b)),
    )
    _enter(
        "s_addc_u32 s_add_co_ci_u32",
        two,
        lambda a, b, scc: a + b + scc & M32,
        scc=lambda a, b, scc: a + b + scc > M32,
    )
    _enter(
        "s_subb_u32 s_sub_co_ci_u32",
        two,
        lambda a, b, scc: a - b - scc & M32,
        scc=lambda a, b, scc: a < b + scc,
    )
    _enter("s_add_nc_u64", wide, lambda a, b: a + b & M64)
    _enter("s_mul_u64", wide, lambda a, b: a * b & M64)
    _enter("s_mul_i32", two, lambda a, b: a * b & M32)
    _enter("s_mul_hi_u32", two, lambda a, b: a * b >> 32)
    _enter("s_mul_hi_i32", two, lambda a, b: signed(a) * signed(b) >> 32 & M32)
    _enter(
        "s_min_i32",
        two,
        lambda a, b: min(signed(a), signed(b)) & M32,
        scc=lambda a, b: signed(a) < signed(b),
    )
    _enter(
        "s_max_i32",
        two,
        lambda a, b: max(signed(a), signed(b)) & M32,
        scc=lambda a, b: signed(a) >= signed(b),
    )
    _enter("s_min_u32", two, min, scc=lambda a, b: a < b)
    _enter("s_max_u32", two, max, scc=lambda a, b: a >= b)
    _logical("s_abs_i32", "32 <- 32", lambda a: abs(signed(a)) & M32)
    for n in range(1, 5):
        _enter(
            f"s_lshl{n}_add_u32",
            two,
            lambda a, b, n=n: (a << n) + b & M32,
            scc=lambda a, b, n=n: (a << n) + b > M32,
        )
    _logical("s_bfe_u32", two, _bfe)
    _logical("s_bfe_i32", two, _bfe_signed)
    _enter("s_brev_b32", "32 <- 32", lambda a: int(f"{a:032b}"[::-1], 2))
    _logical("s_bcnt1_i32_b32", "32 <- 32", lambda a: a.bit_count())
    _logical("s_bcnt1_i32_b64", "32 <- 64", lambda a: a.bit_count())
    _enter("s_ff1_i32_b32 s_ctz_i32_b32", "32 <- 32", _lowest_one)
    _enter("s_ff1_i32_b64 s_ctz_i32_b64", "32 <- 64", _lowest_one)
    _enter("s_flbit_i32_b32 s_clz_i32_u32", "32 <- 32", lambda a: 32 - a.bit_length() if a else M32)
    _enter("s_sext_i32_i8", "32 <- 32", lambda a: signed(a & 0xFF, 8) & M32)
    _enter("s_sext_i32_i16", "32 <- 32", lambda a: signed(a & 0xFFFF, 16) & M32)
    _enter("s_pack_lh_b32_b16", two, lambda a, b: a & 0xFFFF | b & 0xFFFF0000)
    _enter("s_pack_ll_b32_b16", two, lambda a, b: a & 0xFFFF | (b & 0xFFFF) << 16)
    for bit in (0, 1):
        _enter(f"s_bitcmp{bit}_b32", two, None, scc=lambda a, n, bit=bit: a >> n % 32 & 1 == bit)
    _enter("s_mul_f32", two, lambda a, b: b32(f32(a) * f32(b)), kinds="f")
    _enter("s_add_f32", two, lambda a, b: b32(f32(a) + f32(b)), kinds="f")
    _enter(
        "s_fmac_f32",
        "32 <- 32 32 32",
        lambda a, b, c: b32(fused(f32(a), f32(b), f32(c))),
        kinds="f",
        accumulates=True,
    )
    _enter("s_cvt_f32_u32", "32 <- 32", lambda a: b32(a))
    _enter("s_cvt_u32_f32", "32 <- 32", lambda a: _to_integer(f32(a), 0, M32), kinds="f")
    for relation, compare in _RELATIONS.items():
        for kind, read in (("u32", int), ("i32", signed)):
            _enter(
                f"s_cmp_{relation}_{kind}",
                two,
                None,
                scc=lambda a, b, c=compare, r=read: bool(c(r(a), r(b))),
            )
    for relation, compare in _FLOAT_RELATIONS.items():
        _enter(
            f"s_cmp_{relation}_f32",
            two,
            None,
            scc=lambda a, b, c=compare: bool(c(f32(a), f32(b))),
            kinds="f",
        )


_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "lg": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
}


_FLOAT_RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    **_RELATIONS,
    "lg": lambda a, b: a < b or a > b,
    "neq": lambda a, b: a != b,
    "o": lambda a, b: not (math.isnan(a) or math.isnan(b)),
    "u": lambda a, b: math.isnan(a) or math.isnan(b),
    "nge": lambda a, b: not a >= b,
    "ngt": lambda a, b: not a > b,
    "nle": lambda a, b: not a <= b,
    "nlt": lambda a, b: not a < b,
    "nlg": lambda a, b: not (a < b or a > b),
}


def _bfe(a: int, packed: int) -> int:
    return a >> (packed & 31) & (1 << min(packed >> 16 & 0x7F, 64)) - 1


def _bfe_signed(a: int, packed: int) -> int:
    width = packed >> 16 & 0x7F
    field = signed(a) >> (packed & 31) & (1 << width) - 1
    return signed(field, width) & M32 if width else 0


def _lowest_one(a: int) -> int:
    return (a & -a).bit_length() - 1 if a else M32


def _to_integer(value: Any, low: int, high: int) -> int:
    if math.isnan(value):
        return 0
    clipped = min(max(float(value), float(low)), float(high))
    return min(max(int(clipped), low), high) & M32


def _vector_integers() -> None:
    two, three = "32 <- 32 32", "32 <- 32 32 32"
    _enter("v_mov_b32", "32 <- 32", lambda a: a)
    _enter("v_mov_b64", "64 <- 64", lambda a: a)
    _enter("v_not_b32", "32 <- 32", lambda a: ~a & M32)
    _enter("v_and_b32", two, lambda a, b: a & b)
    _enter("v_or_b32", two, lambda a, b: a | b)
    _enter("v_xor_b32", two, lambda a, b: a ^ b)
    _enter("v_xor3_b32", three, lambda a, b, c: a ^ b ^ c)
    _enter("v_add_u32 v_add_nc_u32", two, lambda a, b: a + b & M32)
    _enter("v_sub_u32 v_sub_nc_u32", two, lambda a, b: a - b & M32)
    _enter("v_subrev_u32 v_subrev_nc_u32", two, lambda a, b: b - a & M32)
    _enter("v_min_u32", two, min)
    _enter("v_max_u32", two, max)
    _enter("v_min_i32", two, lambda a, b: min(signed(a), signed(b)) & M32)
    _enter("v_max_i32", two, lambda a, b: max(signed(a), signed(b)) & M32)
    _enter("v_max3_i32", three, lambda *s: max(map(signed, s)) & M32)
    _enter("v_min3_i32", three, lambda *s: min(map(signed, s)) & M32)
    # RDNA3 ISA, V_MINMAX_I32: max(min(s0, s1), s2).
    _enter(
        "v_minmax_i32",
        three,
        lambda a, b, c: max(min(signed(a), signed(b)), signed(c)) & M32,
    )
    _enter("v_mul_u32_u24", two, lambda a, b: (a & 0xFFFFFF) * (b & 0xFFFFFF) & M32)
    _enter(
        "v_mul_i32_i24",
        two,
        lambda a, b: signed(a & 0xFFFFFF, 24) * signed(b & 0xFFFFFF, 24) & M32,
    )
    _enter("v_lshl_add_u64", "64 <- 64 32 64", lambda a, n, b: (a << n % 64) + b & M64)
    _enter("v_lshlrev_b64", "64 <- 32 64", lambda n, a: a << n % 64 & M64)
    _enter("v_lshrrev_b64", "64 <- 32 64", lambda n, a: a >> n % 64)
    _enter("v_ashrrev_i64", "64 <- 32 64", lambda n, a: signed(a, 64) >> n % 64 & M64)
    _enter("v_ffbh_u32 v_clz_i32_u32", "32 <- 32", lambda a: 32 - a.bit_length() if a else M32)
    _enter("v_ffbl_b32 v_ctz_i32_b32", "32 <- 32", _lowest_one)
    _enter("v_pack_b32_f16", two, lambda a, b: a & 0xFFFF | (b & 0xFFFF) << 16)
    for names, total in (
        ("v_add_co_u32", lambda a, b: a + b),
        ("v_sub_co_u32", lambda a, b: a - b),
        ("v_subrev_co_u32", lambda a, b: b - a),
    ):
        _enter(
            names,
            two,
            lambda a, b, t=total: t(a, b) & M32,
            carry=lambda a, b, t=total: t(a, b) >> 32 != 0,
        )
    for names, total in (
        ("v_addc_co_u32 v_add_co_ci_u32", lambda a, b, c: a + b + c),
        ("v_subb_co_u32 v_sub_co_ci_u32", lambda a, b, c: a - b - c),
        ("v_subbrev_co_u32 v_subrev_co_ci_u32", lambda a, b, c: b - a - c),
    ):
        _enter(
            names,
            two,
            lambda a, b, c, t=total: t(a, b, c) & M32,
            carry=lambda a, b, c, t=total: t(a, b, c) >> 32 != 0,
            carry_in=True,
        )
    _enter(
        "v_mad_u64_u32 v_mad_co_u64_u32",
        "64 <- 32 32 64",
        lambda a, b, c: a * b + c & M64,
        carry=lambda a, b, c: a * b + c > M64,
    )
    _enter(
        "v_mad_i64_i32 v_mad_co_i64_i32",
        "64 <- 32 32 64",
        lambda a, b, c: signed(a) * signed(b) + signed(c, 64) & M64,
        # Bit 64 of a sum of 65 bits.
        carry=lambda a, b, c: signed(a) * signed(b) + signed(c, 64) < 0,
    )
    _enter("v_lshlrev_b16", "16 <- 16 16", lambda n, a: a << n % 16 & 0xFFFF)
    _enter("v_mov_b16", "16 <- 16", lambda a: a)
    _enter("v_and_b16", "16 <- 16 16", lambda a, b: a & b)
    _enter("v_or_b16", "16 <- 16 16", lambda a, b: a | b)
    _enter("v_cvt_u32_u16", "32 <- 16", lambda a: a)
    _enter("v_cndmask_b16", "16 <- 16 16", lambda a, b, bit: b if bit else a, carry_in=True)
    _enter("v_cndmask_b32", two, lambda a, b, bit: b if bit else a, carry_in=True)
    for kind, width, read in (
        ("u32", 32, lambda a: a),
        ("i32", 32, signed),
        ("u64", 64, lambda a: a),
        ("i64", 64, lambda a: signed(a, 64)),
        ("u16", 16, lambda a: a & 0xFFFF),
        ("i16", 16, lambda a: signed(a & 0xFFFF, 16)),
    ):
        for relation, compare in (_RELATIONS | {"ne": lambda a, b: a != b}).items():
            if relation != "lg":
                _enter(
                    f"v_cmp_{relation}_{kind}",
                    f"0 <- {width} {width}",
                    None,
                    carry=lambda a, b, c=compare, r=read: bool(c(r(a), r(b))),
                )


def _vector_floats() -> None:
    two, three = "32 <- 32 32", "32 <- 32 32 32"

    def number(function: Callable[..., Any]) -> Callable[..., int]:
        return lambda *sources: b32(function(*map(f32, sources)))

    def floats(names: str, widths: str, function: Callable[..., Any], **more: Any) -> None:
        _enter(names, widths, number(function), kinds="f", **more)

    floats("v_add_f32", two, lambda a, b: a + b)
    floats("v_sub_f32", two, lambda a, b: a - b)
    floats("v_subrev_f32", two, lambda a, b: b - a)
    floats("v_mul_f32", two, lambda a, b: a * b)
    floats("v_fmac_f32", three, fused, accumulates=True)
    floats("v_min_f32 v_min_num_f32", two, _smaller)
    floats("v_max_f32 v_max_num_f32", two, _larger)
    floats("v_min3_f32 v_min3_num_f32", three, lambda a, b, c: _smaller(_smaller(a, b), c))
    floats("v_max3_f32 v_max3_num_f32", three, lambda a, b, c: _larger(_larger(a, b), c))
    one = "32 <- 32"
    floats("v_exp_f32 v_s_exp_f32", one, lambda a: _flush(2.0 ** np.float64(_flush(a))), ulps=1)
    floats("v_log_f32", one, lambda a: np.log2(np.float64(_flush(a))), ulps=1)
    floats("v_rcp_f32 v_s_rcp_f32", one, lambda a: _flush(1 / np.float64(_flush(a))), ulps=1)
    floats("v_rsq_f32", one, lambda a: 1 / np.sqrt(np.float64(_flush(a))), ulps=1)
    floats("v_sqrt_f32", one, np.sqrt, ulps=1)
    for relation, compare in _FLOAT_RELATIONS.items():
        _enter(
            f"v_cmp_{relation}_f32",
            "0 <- 32 32",
            None,
            carry=lambda a, b, c=compare: bool(c(f32(a), f32(b))),
            kinds="f",
        )
    _enter(
        "v_cvt_pk_bf16_f32",
        two,
        lambda a, b: bf16_bits(a) | bf16_bits(b) << 16,
        kinds="f",
    )
    _enter("v_cvt_pk_f16_f32", two, lambda a, b: b16(f32(a)) | b16(f32(b)) << 16, kinds="f")


def _smaller(a: Any, b: Any) -> Any:
    if math.isnan(a) or math.isnan(b):
        return b if math.isnan(a) else a
    return a if a < b or (a == b and np.signbit(a)) else b


def _larger(a: Any, b: Any) -> Any:
    if math.isnan(a) or math.isnan(b):
        return b if math.isnan(a) else a
    return a if a > b or (a == b and np.signbit(b)) else b


def _flush(a: Any) -> Any:
    return a * 0 if abs(a) < 2.0**-126 else a


_scalar()
_vector_integers()
_vector_floats()
