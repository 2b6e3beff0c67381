"""Steps of the scalar ALU's instructions: one value a wave."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from moeproof.amd import float_arithmetic as floats
from moeproof.amd import integer_arithmetic as integers
from moeproof.amd.decoding import Instruction
from moeproof.amd.operands import Step, Target, bits_of, destination, source, unknown
from moeproof.amd.state import EXEC, Array, Waves

# What SCC becomes: given the sources and the result.
Condition = Callable[..., Array]


@dataclass(frozen=True)
class ScalarOperation:
    """`function(*sources) -> result`, and SCC after it (None leaves SCC alone)."""

    function: Callable[..., Any]
    result: str
    sources: tuple[str, ...]
    condition: Condition | None = None


OPERATIONS: dict[str, ScalarOperation] = {}
_COMPARISON = re.compile(r"s_cmp(k?)_(eq|lg|gt|ge|lt|le|neq|nge|ngt|nle|nlt|nlg|o|u)_([iuf]\d\d)")


def _enter(
    names: str, function: Callable[..., Any], types: str, condition: Condition | None = None
) -> None:
    result, sources = types.split("<-")
    for name in names.split():
        OPERATIONS[name] = ScalarOperation(
            function, result.strip(), tuple(sources.split()), condition
        )


def _nonzero(result: Array, *sources: Array) -> Array:
    return result != 0


def _carried(result: Array, a: Array, b: Array) -> Array:
    return result < a


def _borrowed(result: Array, a: Array, b: Array) -> Array:
    return a < b


def _overflowed_sum(result: Array, a: Array, b: Array) -> Array:
    return ((a ^ result) & (b ^ result)) < 0


def _overflowed_difference(result: Array, a: Array, b: Array) -> Array:
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

    def arithmetic(a: Array, count: Array) -> Array:
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
    _enter("s_cvt_f32_i32", lambda a: a.astype(np.float32), "f32 <- i32")
    _enter("s_cvt_f32_u32", lambda a: a.astype(np.float32), "f32 <- u32")
    _enter("s_cvt_i32_f32", floats.to_int32, "i32 <- f32")
    _enter("s_cvt_u32_f32", floats.to_uint32, "u32 <- f32")


for _bits in (32, 64):
    _logical(_bits)
_enter_integers()
_enter_floats()

_SAVING = re.compile(r"s_(\w+)_saveexec_b(32|64)")
_WRITING = re.compile(r"s_(\w+)_wrexec_b(32|64)")


def scalar_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of a scalar ALU instruction; None for any other."""
    name = instruction.name
    if name in OPERATIONS:
        return _operation(instruction, target, OPERATIONS[name])
    if name in ("s_addc_u32", "s_add_co_ci_u32", "s_subb_u32", "s_sub_co_ci_u32"):
        return _with_carry(instruction, target, subtract="sub" in name)
    if name.startswith("s_cselect_b"):
        return _selection(instruction, target)
    if name.startswith("s_cmov"):
        return _conditional_move(instruction, target)
    if name.startswith("s_bitcmp"):
        return _bit_test(instruction, target)
    if name.startswith("s_bitset"):
        return _bit_set(instruction, target)
    for pattern, saves in ((_SAVING, True), (_WRITING, False)):
        match = pattern.fullmatch(name)
        if match:
            return _exec_update(instruction, target, *match.groups(), saves=saves)
    comparison = _COMPARISON.fullmatch(name)
    if comparison:
        return _comparison(instruction, target, *comparison.groups())
    return None


def _constant(instruction: Instruction, kind: str) -> Callable[[Waves], Array]:
    """SOPK's 16-bit constant, sign-extended where the operation is signed."""
    value = instruction.fields["simm16"]
    if kind[0] == "i":
        value = (value ^ 0x8000) - 0x8000
    constant = np.array(value, np.dtype(f"{kind[0]}4"))
    return lambda waves: constant


def scalar_source(
    instruction: Instruction, name: str, kind: str, target: Target
) -> Callable[[Waves], Array]:
    """A fetch of `(waves, 1)` or a constant."""
    widened = kind == "u32as64"
    views = attrgetter("u32" if widened else kind)
    operand = source(instruction, name, target)
    if widened:
        return lambda waves: views(waves)[operand].astype(np.uint64)
    return lambda waves: views(waves)[operand]


def _put(instruction: Instruction, kind: str, target: Target) -> Callable[[Waves, Array], None]:
    views = attrgetter(kind)
    operand = destination(instruction, "sdst", target)
    changes_exec = operand == EXEC or (operand == EXEC + 1 and target.lanes == 64)

    def write(waves: Waves, value: Array) -> None:
        views(waves)[operand][...] = value
        if changes_exec:
            waves.refresh_mask()

    return write


def _operation(instruction: Instruction, target: Target, operation: ScalarOperation) -> Step:
    put = _put(instruction, operation.result, target)
    fetches: list[Callable[[Waves], Array]]
    if instruction.encoding.startswith("SOPK"):
        kind = operation.result
        fetches = [_constant(instruction, kind)]
        if len(operation.sources) == 2:
            fetches.insert(0, scalar_source(instruction, "sdst", kind, target))
    else:
        names = ("src0", "src1")[: len(operation.sources)]
        fetches = [
            scalar_source(instruction, name, kind, target)
            for name, kind in zip(names, operation.sources, strict=True)
        ]
    function, condition = operation.function, operation.condition

    def step(waves: Waves) -> None:
        values = [fetch(waves) for fetch in fetches]
        result = function(*values)
        if condition is not None:
            waves.scc[...] = condition(result, *values)
        put(waves, result)

    return step


def _with_carry(instruction: Instruction, target: Target, *, subtract: bool) -> Step:
    put = _put(instruction, "u32", target)
    first = scalar_source(instruction, "src0", "u32", target)
    second = scalar_source(instruction, "src1", "u32", target)

    def step(waves: Waves) -> None:
        a, b = first(waves).astype(np.int64), second(waves).astype(np.int64)
        total = a - b - waves.scc if subtract else a + b + waves.scc
        waves.scc[...] = (total >> 32) != 0
        put(waves, total.astype(np.uint32))

    return step


def _kind_of_name(instruction: Instruction) -> str:
    return f"u{instruction.name[-2:]}"


def _selection(instruction: Instruction, target: Target) -> Step:
    kind = _kind_of_name(instruction)
    put = _put(instruction, kind, target)
    first = scalar_source(instruction, "src0", kind, target)
    second = scalar_source(instruction, "src1", kind, target)
    return lambda waves: put(waves, np.where(waves.scc, first(waves), second(waves)))


def _conditional_move(instruction: Instruction, target: Target) -> Step:
    if instruction.encoding.startswith("SOPK"):
        kind, new = "i32", _constant(instruction, "i32")
    else:
        kind = _kind_of_name(instruction)
        new = scalar_source(instruction, "src0", kind, target)
    old = scalar_source(instruction, "sdst", kind, target)
    put = _put(instruction, kind, target)
    return lambda waves: put(waves, np.where(waves.scc, new(waves), old(waves)))


def _bit_test(instruction: Instruction, target: Target) -> Step:
    wanted = int(instruction.name[len("s_bitcmp")])
    kind = _kind_of_name(instruction)
    value = scalar_source(instruction, "src0", kind, target)
    position = scalar_source(instruction, "src1", "u32" if kind == "u32" else "u32as64", target)

    def step(waves: Waves) -> None:
        bit = integers.shift_right(value(waves), position(waves)) & 1
        waves.scc[...] = bit == wanted

    return step


def _bit_set(instruction: Instruction, target: Target) -> Step:
    bit = int(instruction.name[len("s_bitset")])
    kind = _kind_of_name(instruction)
    one = np.dtype(f"u{bits_of(kind) // 8}").type(1)
    position = scalar_source(instruction, "src0", "u32" if kind == "u32" else "u32as64", target)
    old = scalar_source(instruction, "sdst", kind, target)
    put = _put(instruction, kind, target)

    def step(waves: Waves) -> None:
        mask = integers.shift_left(one, position(waves))
        put(waves, old(waves) | mask if bit else old(waves) & ~mask)

    return step


def _exec_update(
    instruction: Instruction, target: Target, operation: str, bits: str, *, saves: bool
) -> Step:
    """s_and_saveexec: EXEC combined with the source; the old EXEC (or the new one) is kept."""
    combine: dict[str, Callable[[Array, Array], Array]] = {
        "and": lambda s, e: s & e,
        "or": lambda s, e: s | e,
        "xor": lambda s, e: s ^ e,
        "andn2": lambda s, e: s & ~e,
        "and_not1": lambda s, e: s & ~e,
        "orn2": lambda s, e: s | ~e,
        "or_not1": lambda s, e: s | ~e,
        "andn1": lambda s, e: ~s & e,
        "and_not0": lambda s, e: ~s & e,
        "orn1": lambda s, e: ~s | e,
        "or_not0": lambda s, e: ~s | e,
        "nand": lambda s, e: ~(s & e),
        "nor": lambda s, e: ~(s | e),
        "xnor": lambda s, e: ~(s ^ e),
    }
    if operation not in combine:
        raise unknown(instruction, "update of EXEC")
    function, kind = combine[operation], f"u{bits}"
    views = attrgetter(kind)
    value = scalar_source(instruction, "src0", kind, target)
    put = _put(instruction, kind, target)

    def step(waves: Waves) -> None:
        execute = views(waves)[EXEC]
        old = execute.copy()
        new = function(value(waves), old)
        put(waves, old if saves else new)
        execute[...] = new
        waves.scc[...] = new != 0
        waves.refresh_mask()

    return step


_RELATIONS: dict[str, Callable[[Any, Any], Array]] = {
    "eq": np.equal,
    "lg": lambda a, b: (a < b) | (a > b),
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
    "neq": np.not_equal,
    "nge": lambda a, b: ~(a >= b),
    "ngt": lambda a, b: ~(a > b),
    "nle": lambda a, b: ~(a <= b),
    "nlt": lambda a, b: ~(a < b),
    "nlg": lambda a, b: ~((a < b) | (a > b)),
    "o": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "u": lambda a, b: np.isnan(a) | np.isnan(b),
}


def _comparison(
    instruction: Instruction, target: Target, constant: str, relation: str, kind: str
) -> Step:
    compare = _RELATIONS[relation]
    if constant:
        first = scalar_source(instruction, "sdst", kind, target)
        second = _constant(instruction, kind)
    else:
        first = scalar_source(instruction, "src0", kind, target)
        second = scalar_source(instruction, "src1", kind, target)

    def step(waves: Waves) -> None:
        waves.scc[...] = compare(first(waves), second(waves))

    return step
