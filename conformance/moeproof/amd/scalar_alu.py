"""Steps of the scalar ALU's instructions: one value a wave."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from moeproof.amd import float_arithmetic as floats
from moeproof.amd import integer_arithmetic as integers
from moeproof.amd.decoding import Instruction
from moeproof.amd.operands import Step, Target, bits_of, destination, source, unknown
from moeproof.amd.scalar_operations import OPERATIONS, ScalarOperation
from moeproof.amd.state import EXEC, LITERAL, Array, Waves

_COMPARISON = re.compile(r"s_cmp(k?)_(eq|lg|gt|ge|lt|le|neq|nge|ngt|nle|nlt|nlg|o|u)_([iuf]\d\d)")
_SAVING = re.compile(r"s_(\w+)_saveexec_b(32|64)")
_WRITING = re.compile(r"s_(\w+)_wrexec_b(32|64)")


def scalar_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of a scalar ALU instruction; None for any other."""
    name = instruction.name
    if name in OPERATIONS:
        return _operation(instruction, target, OPERATIONS[name])
    if name in ("s_addc_u32", "s_add_co_ci_u32", "s_subb_u32", "s_sub_co_ci_u32"):
        return _with_carry(instruction, target, subtract="sub" in name)
    if name in _MULTIPLY_ADDS:
        return _multiply_add(instruction, target, _MULTIPLY_ADDS[name])
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


# Which operand is added, and which are multiplied before.
_MULTIPLY_ADDS = {
    "s_fmac_f32": ("src0", "src1", "sdst"),
    "s_fmaak_f32": ("src0", "src1", "literal"),
    "s_fmamk_f32": ("src0", "literal", "src1"),
}


def _multiply_add(instruction: Instruction, target: Target, names: tuple[str, ...]) -> Step:
    put = _put(instruction, "f32", target)

    def operand(name: str) -> int:
        if name == "literal":
            return LITERAL | (instruction.literal or 0)
        return source(instruction, name, target)

    a, b, c = (operand(name) for name in names)
    return lambda waves: put(waves, floats.fma32(waves.f32[a], waves.f32[b], waves.f32[c]))


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
