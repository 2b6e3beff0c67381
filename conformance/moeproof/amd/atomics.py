"""Atomic read-modify-write operations, on global memory and on LDS alike.

Names are those of the RDNA3 ISA manual, section 16.15 (``add_u32``, ``min_i64``, ``cmpswap_b32``);
``operation_of`` finds the one that an instruction of any generation means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Combine = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Operation:
    """``combine(before, operand) -> after`` on arrays of ``dtype``; None compares and swaps."""

    name: str
    size: int  # bytes of one value
    dtype: np.dtype[Any]
    combine: Combine | None


def _increment(before: Any, limit: Any) -> Any:
    return np.where(before >= limit, before.dtype.type(0), before + before.dtype.type(1))


def _decrement(before: Any, limit: Any) -> Any:
    wraps = (before == 0) | (before > limit)
    return np.where(wraps, limit, before - before.dtype.type(1))


def _subtract_clamped(before: Any, operand: Any) -> Any:
    return np.where(before < operand, before.dtype.type(0), before - operand)


def _conditional_subtract(before: Any, operand: Any) -> Any:
    return np.where(before < operand, before, before - operand)


def _swap(before: Any, operand: Any) -> Any:
    return operand


def _operations() -> dict[str, Operation]:
    table: dict[str, Operation] = {}

    def enter(name: str, size: int, dtype: Any, combine: Combine | None) -> None:
        table[name] = Operation(name, size, np.dtype(dtype), combine)

    for bits in (32, 64):
        size = bits // 8
        unsigned, signed, floating = f"<u{size}", f"<i{size}", f"<f{size}"
        arithmetic: dict[str, Combine] = {
            "add": np.add,
            "sub": np.subtract,
            "inc": _increment,
            "dec": _decrement,
            "min": np.minimum,
            "max": np.maximum,
            "sub_clamp": _subtract_clamped,
            "cond_sub": _conditional_subtract,
        }
        bitwise: dict[str, Combine] = {
            "and": np.bitwise_and,
            "or": np.bitwise_or,
            "xor": np.bitwise_xor,
            "swap": _swap,
        }
        for name, combine in arithmetic.items():
            enter(f"{name}_u{bits}", size, unsigned, combine)
        enter(f"min_i{bits}", size, signed, np.minimum)
        enter(f"max_i{bits}", size, signed, np.maximum)
        for name, combine in bitwise.items():
            enter(f"{name}_b{bits}", size, unsigned, combine)
        enter(f"cmpswap_b{bits}", size, unsigned, None)
        enter(f"add_f{bits}", size, floating, np.add)
        enter(f"min_f{bits}", size, floating, np.fmin)
        enter(f"max_f{bits}", size, floating, np.fmax)
    enter("pk_add_f16", 4, "<f2", np.add)
    enter("pk_add_bf16", 4, ml_dtypes.bfloat16, np.add)
    return table


OPERATIONS = _operations()


def operation_named(name: str) -> Operation:
    """Raises ValueError for a name that is not in ``OPERATIONS``."""
    if name not in OPERATIONS:
        raise ValueError(f"atomic operation {name!r}: expected one of {sorted(OPERATIONS)}")
    return OPERATIONS[name]


_CDNA_NAMES = {"smin": "min_i", "smax": "max_i", "umin": "min_u", "umax": "max_u"}
_OTHER_NAMES = {
    "wrxchg": "swap",
    "storexchg": "swap",
    "cmpst": "cmpswap",
    "cmpstore": "cmpswap",
    "csub": "sub_clamp",
}
_PREFIX = re.compile(r"(?:(?:global|flat|buffer)_atomic|ds)_(.+)")


def operation_of(mnemonic: str) -> str | None:
    """The operation of an instruction such as ``global_atomic_add_x2`` or ``ds_max_rtn_i32``.

    None where the mnemonic is no atomic of this table. CDNA's vector memory atomics name no
    type (``add`` is 32 bits wide, ``add_x2`` 64; ``smin`` and ``umin`` tell signs apart); RDNA4
    writes ``min_num_f32`` for the IEEE 754-2019 minimumNumber that ``np.fmin`` is.

    Of the two data operands of a compare-and-swap, CDNA's ``ds_cmpst`` has the compared value
    first; every other instruction has the new value first, as ``read_modify_write`` does.
    """
    match = _PREFIX.fullmatch(mnemonic.lower())
    if match is None:
        return None
    name = match[1].replace("_rtn", "").replace("_num_", "_")
    for other, usual in _OTHER_NAMES.items():
        name = re.sub(rf"^{other}(?=_)", usual, name)
    if name in OPERATIONS:
        return name
    bits = 64 if name.endswith("_x2") else 32
    name = name.removesuffix("_x2")
    if name in _CDNA_NAMES:
        return f"{_CDNA_NAMES[name]}{bits}"
    for letter in "ub":
        if f"{name}_{letter}{bits}" in OPERATIONS:
            return f"{name}_{letter}{bits}"
    return None


def read_modify_write(
    words: NDArray[Any],
    positions: NDArray[np.int64],
    operation: Operation,
    data: NDArray[np.uint32],
) -> NDArray[np.uint32]:
    """Apply ``operation`` at ``positions`` of ``words``, in their order.

    Denormals are kept and floating-point sums rounded to nearest even, one lane after another;
    hardware takes lanes and waves in any order.

    Args:
        words: memory as unsigned words of ``operation.size`` bytes; element i begins at byte i.
        positions: ``(n,)``. data: ``(dwords, n)``; cmpswap's new value, then the compared one.

    Returns:
        the values before, ``(operation.size // 4, n)``.
    """
    count = len(positions)
    operand = _words_of(data[: operation.size // 4], operation.size)
    compared = operand
    if operation.combine is None:
        compared = _words_of(data[operation.size // 4 :], operation.size)
    before = np.empty(count, words.dtype)
    for lanes in _rounds(positions):
        old = words[positions[lanes]]
        before[lanes] = old
        if operation.combine is None:
            new = np.where(old == compared[lanes], operand[lanes], old)
        else:
            with np.errstate(all="ignore"):
                new = operation.combine(
                    old.view(operation.dtype), operand[lanes].view(operation.dtype)
                )
        words[positions[lanes]] = np.ascontiguousarray(new, operation.dtype).view(words.dtype)
    return np.ascontiguousarray(before.view("<u4").reshape(count, -1).T)


def _words_of(dwords: NDArray[np.uint32], size: int) -> NDArray[Any]:
    return np.ascontiguousarray(dwords.T).view(f"<u{size}").reshape(-1)


def _rounds(positions: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split the lanes so that no round touches a position twice; in lane order at each one."""
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    fresh = np.ones(len(order), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    if fresh.all():
        return [order] if len(order) else []
    first = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
    turn = np.arange(len(order)) - first
    by_turn = np.argsort(turn, kind="stable")
    return np.split(order[by_turn], np.cumsum(np.bincount(turn))[:-1])
