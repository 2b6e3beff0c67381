"""Steps of vector instructions with one bit a lane: compare, select, carry, divide."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from moeproof.amd import float_arithmetic as floats
from moeproof.amd.decoding import Instruction
from moeproof.amd.operands import Fetch, Step, Store, Target, source, unknown
from moeproof.amd.state import EXEC, FIRST_VECTOR, VCC, Array, Waves
from moeproof.amd.vector_alu import result_store, source_fetches

_COMPARISON = re.compile(r"v_cmp(x?)_(\w+?)_([fiu](?:16|32|64)|b32)")

# The names of RDNA3 ISA, section 16.12 "VOPC instructions". "lg" is less or greater: an ordered
# inequality; the ones with an "n" are the negations, true of NaN.
_RELATIONS: dict[str, Callable[[Any, Any], Array]] = {
    "f": lambda a, b: np.zeros(np.broadcast_shapes(a.shape, b.shape), bool),
    "lt": np.less,
    "eq": np.equal,
    "le": np.less_equal,
    "gt": np.greater,
    "lg": lambda a, b: (a < b) | (a > b),
    "ne": np.not_equal,
    "ge": np.greater_equal,
    "o": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "u": lambda a, b: np.isnan(a) | np.isnan(b),
    "nge": lambda a, b: ~(a >= b),
    "nlg": lambda a, b: ~((a < b) | (a > b)),
    "ngt": lambda a, b: ~(a > b),
    "nle": lambda a, b: ~(a <= b),
    "neq": np.not_equal,
    "nlt": lambda a, b: ~(a < b),
    "t": lambda a, b: np.ones(np.broadcast_shapes(a.shape, b.shape), bool),
    "tru": lambda a, b: np.ones(np.broadcast_shapes(a.shape, b.shape), bool),
}


def mask_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of an instruction of this module; None for any other."""
    name = instruction.name
    comparison = _COMPARISON.fullmatch(name)
    if comparison:
        return _comparison(instruction, target, *comparison.groups())
    if name.startswith("v_cmp"):
        return _class_test(instruction, target)
    if name in _CARRIES:
        return _carry(instruction, target, *_CARRIES[name])
    if name in ("v_cndmask_b32", "v_cndmask_b16"):
        compute, put = selection(instruction, target)
        return lambda waves: put(waves, compute(waves))
    if name in _WIDE_PRODUCTS:
        return _wide_product(instruction, target, signed=_WIDE_PRODUCTS[name])
    if name == "v_div_scale_f32":
        return _division_scale(instruction, target)
    if name == "v_div_fmas_f32":
        return _division_fma(instruction, target)
    return None


def _mask_destination(instruction: Instruction) -> int:
    """The scalar destination: named, or VCC in the small formats."""
    fields = instruction.fields
    if instruction.encoding.endswith("SDWA_SDST"):
        return fields["sdst"] if fields["sd"] else VCC
    if "sdst" in fields:
        return fields["sdst"]
    operand = fields.get("vdst", FIRST_VECTOR)
    return operand if operand < FIRST_VECTOR else VCC


def _write_mask(
    instruction: Instruction, target: Target, *, exclusive: bool
) -> Callable[[Waves, Array], None]:
    """Writes a comparison's result; bits of inactive lanes become 0. exclusive: v_cmpx."""
    operand = _mask_destination(instruction)

    def write(waves: Waves, result: Array) -> None:
        lanes = np.broadcast_to(result, (waves.waves, waves.lanes))
        if waves.mask is not True:
            lanes = lanes & waves.mask
        if not exclusive or target.family == "cdna":
            waves.set_bools(operand, lanes)
        if exclusive:
            waves.set_bools(EXEC, lanes)

    return write


def _comparison(
    instruction: Instruction, target: Target, exclusive: str, relation: str, kind: str
) -> Step:
    if relation not in _RELATIONS:
        raise unknown(instruction, "comparison")
    compare = _RELATIONS[relation]
    first, second = source_fetches(instruction, target, (kind, kind))
    write = _write_mask(instruction, target, exclusive=bool(exclusive))
    return lambda waves: write(waves, compare(first(waves), second(waves)))


def _class_test(instruction: Instruction, target: Target) -> Step:
    """v_cmp_class: is the number of one of the classes that src1's bits name?"""
    match = re.fullmatch(r"v_cmp(x?)_class_(f16|f32|f64)", instruction.name)
    if not match:
        raise unknown(instruction, "comparison")
    exclusive, kind = match.groups()
    number, classes = source_fetches(instruction, target, (kind, "u32"))
    write = _write_mask(instruction, target, exclusive=bool(exclusive))

    def step(waves: Waves) -> None:
        value, wanted = number(waves), classes(waves)
        tiny = np.abs(value) < np.finfo(value.dtype).tiny
        negative, zero, nan = np.signbit(value), value == 0, np.isnan(value)
        infinite = np.isinf(value)
        quiet = nan & _quiet(value)
        normal = ~(nan | infinite | tiny)
        members = (
            nan & ~quiet,
            quiet,
            infinite & negative,
            normal & negative,
            tiny & ~zero & negative,
            zero & negative,
            zero & ~negative,
            tiny & ~zero & ~negative,
            normal & ~negative,
            infinite & ~negative,
        )
        result: Any = False
        for bit, member in enumerate(members):
            result = result | (member & ((wanted >> np.uint32(bit) & np.uint32(1)) == 1))
        write(waves, result)

    return step


def _quiet(value: Array) -> Any:
    width = value.dtype.itemsize
    mantissa = {2: 10, 4: 23, 8: 52}[width]
    unsigned = np.dtype(f"u{width}")
    bits = np.ascontiguousarray(value).view(unsigned)
    return (bits >> unsigned.type(mantissa - 1) & unsigned.type(1)) == 1


def selection(instruction: Instruction, target: Target) -> tuple[Fetch, Store]:
    """v_cndmask: src1 where the mask has a one, src0 elsewhere; and how that is stored."""
    kind = "f16" if instruction.name.endswith("16") else "f32"
    if not any(instruction.fields.get(name) for name in ("neg", "abs", "src0_neg", "src1_neg")):
        kind = kind.replace("f", "u")
    zero, one = source_fetches(instruction, target, (kind, kind))
    mask = source(instruction, "src2", target) if "src2" in instruction.fields else VCC
    if instruction.encoding.startswith("VOP2"):
        mask = VCC
    put = result_store(instruction, target, kind)
    return lambda waves: np.where(waves.bools(mask), one(waves), zero(waves)), put


_CARRIES: dict[str, tuple[str, bool]] = {
    "v_add_co_u32": ("add", False),
    "v_sub_co_u32": ("sub", False),
    "v_subrev_co_u32": ("subrev", False),
    "v_addc_co_u32": ("add", True),
    "v_add_co_ci_u32": ("add", True),
    "v_subb_co_u32": ("sub", True),
    "v_sub_co_ci_u32": ("sub", True),
    "v_subbrev_co_u32": ("subrev", True),
    "v_subrev_co_ci_u32": ("subrev", True),
}


def _carry(instruction: Instruction, target: Target, kind: str, with_carry: bool) -> Step:
    """Addition or subtraction with a carry out, and perhaps one in."""
    first, second = source_fetches(instruction, target, ("u32", "u32"))
    put = result_store(instruction, target, "u32")
    write = _write_mask(instruction, target, exclusive=False)
    carry_in = VCC
    if with_carry and "src2" in instruction.fields:
        carry_in = source(instruction, "src2", target)
    if kind == "subrev":
        first, second = second, first

    def step(waves: Waves) -> None:
        a, b = first(waves).astype(np.int64), second(waves).astype(np.int64)
        carry = waves.bools(carry_in).astype(np.int64) if with_carry else np.int64(0)
        total = a + b + carry if kind == "add" else a - b - carry
        write(waves, (total >> 32) != 0)
        put(waves, total.astype(np.uint32))

    return step


_WIDE_PRODUCTS = {
    "v_mad_u64_u32": False,
    "v_mad_co_u64_u32": False,
    "v_mad_i64_i32": True,
    "v_mad_co_i64_i32": True,
}


def _wide_product(instruction: Instruction, target: Target, *, signed: bool) -> Step:
    """v_mad_u64_u32: a 64-bit sum of a 32-bit product, and its carry."""
    narrow, wide = ("i32", "i64") if signed else ("u32", "u64")
    first, second, third = source_fetches(instruction, target, (narrow, narrow, wide))
    put = result_store(instruction, target, wide)
    write = _write_mask(instruction, target, exclusive=False)

    def step(waves: Waves) -> None:
        addend = third(waves)
        product = np.multiply(first(waves), second(waves), dtype=addend.dtype)
        total = np.add(product, addend)
        carry = total < product
        if signed:  # bit 64 of the sum: its sign, whether or not 64 bits hold it
            carry = carry ^ (addend < 0) ^ (total < 0)
        write(waves, carry)
        put(waves, total)

    return step


def _division_scale(instruction: Instruction, target: Target) -> Step:
    sources = source_fetches(instruction, target, ("f32", "f32", "f32"))
    put = result_store(instruction, target, "f32")
    write = _write_mask(instruction, target, exclusive=False)

    def step(waves: Waves) -> None:
        result, scaled = floats.division_scale(*(np.asarray(s(waves)) for s in sources))
        write(waves, scaled)
        put(waves, result)

    return step


def _division_fma(instruction: Instruction, target: Target) -> Step:
    sources = source_fetches(instruction, target, ("f32", "f32", "f32"))
    put = result_store(instruction, target, "f32")

    def step(waves: Waves) -> None:
        a, b, c = (s(waves) for s in sources)
        put(waves, floats.division_fma(a, b, c, waves.bools(VCC)))

    return step
