"""Atomic operations against plain Python, one lane at a time."""

from __future__ import annotations

import struct

import ml_dtypes
import numpy as np
import pytest

from moeproof.amd.atomics import OPERATIONS, operation_of
from moeproof.amd.memory import AddressSpace


def expected(name: str, before: int, operand: int, compared: int) -> int:
    """The operation on one value, written from the ISA manual's pseudo-code."""
    bits = 64 if name.endswith("64") else 32
    limit = 1 << bits

    def signed(value: int) -> int:
        return value - limit if value >> (bits - 1) else value

    def floating(value: int) -> float:
        return struct.unpack("<d" if bits == 64 else "<f", value.to_bytes(bits // 8, "little"))[0]

    def encoded(value: float) -> int:
        return int.from_bytes(struct.pack("<d" if bits == 64 else "<f", value), "little")

    match name.rsplit("_", 1):
        case ["add", "f32"]:
            return encoded(float(np.float32(floating(before) + floating(operand))))
        case ["add", "f64"]:
            return encoded(floating(before) + floating(operand))
        case ["min", "f32" | "f64"]:
            return before if floating(before) < floating(operand) else operand
        case ["max", "f32" | "f64"]:
            return before if floating(before) > floating(operand) else operand
        case ["pk_add", kind]:
            dtype = np.float16 if kind == "f16" else ml_dtypes.bfloat16
            halves = [
                np.array([v & 0xFFFF, v >> 16], np.uint16).view(dtype) for v in (before, operand)
            ]
            exact = halves[0].astype(np.float64) + halves[1].astype(np.float64)
            low, high = exact.astype(dtype).view(np.uint16)
            return int(low) | int(high) << 16
        case ["add", _]:
            return (before + operand) % limit
        case ["sub", _]:
            return (before - operand) % limit
        case ["sub_clamp", _]:
            return max(before - operand, 0)
        case ["cond_sub", _]:
            return before - operand if before >= operand else before
        case ["inc", _]:
            return 0 if before >= operand else before + 1
        case ["dec", _]:
            return operand if before == 0 or before > operand else before - 1
        case ["min", kind]:
            return min(before, operand, key=signed if kind[0] == "i" else int)
        case ["max", kind]:
            return max(before, operand, key=signed if kind[0] == "i" else int)
        case ["and", _]:
            return before & operand
        case ["or", _]:
            return before | operand
        case ["xor", _]:
            return before ^ operand
        case ["swap", _]:
            return operand
        case ["cmpswap", _]:
            return operand if before == compared else before
    raise AssertionError(name)


def values(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    size = OPERATIONS[name].size
    if name.endswith(("f32", "f64", "f16", "bf16")):
        numbers = rng.normal(size=count * size // OPERATIONS[name].dtype.itemsize)
        return numbers.astype(OPERATIONS[name].dtype).view(f"<u{size}")
    small = rng.integers(0, 4, count, dtype=np.uint64)
    large = rng.integers(0, 2 ** (8 * size), count, dtype=np.uint64)
    return np.where(rng.random(count) < 0.6, small, large).astype(f"<u{size}")


@pytest.mark.parametrize("spread", [1, 4, 500])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_lanes_take_their_turns(name: str, spread: int) -> None:
    rng = np.random.default_rng(spread)
    size = OPERATIONS[name].size
    shape = (2, 32)
    memory = values(name, spread, rng)
    operands, compared = values(name, 64, rng), values(name, 64, rng)
    targets = rng.integers(0, spread, 64)
    mask = rng.random(shape) < 0.8
    space = AddressSpace()
    allocation = space.allocate("x", memory.tobytes())
    data = np.concatenate(
        [v.view("<u4").reshape(*shape, -1).transpose(2, 0, 1) for v in (operands, compared)]
    )
    addresses = (allocation.address + targets.reshape(shape) * size).astype(np.uint64)
    returned = space.atomic(name, addresses, mask, data)
    after = [int(value) for value in memory]
    before = []
    for lane in range(64):
        if not mask.reshape(-1)[lane]:
            before.append(0)
            continue
        before.append(after[targets[lane]])
        after[targets[lane]] = expected(
            name, after[targets[lane]], int(operands[lane]), int(compared[lane])
        )
    assert allocation.array is not None
    assert allocation.array.view(f"<u{size}").tolist() == after
    assert returned.shape == (size // 4, *shape)
    got = np.ascontiguousarray(returned.transpose(1, 2, 0)).view(f"<u{size}").reshape(-1)
    assert got.tolist() == before


@pytest.mark.parametrize(
    ("mnemonic", "operation"),
    [
        ("global_atomic_add", "add_u32"),
        ("global_atomic_add_x2", "add_u64"),
        ("buffer_atomic_smin_x2", "min_i64"),
        ("flat_atomic_umax", "max_u32"),
        ("global_atomic_cmpswap", "cmpswap_b32"),
        ("global_atomic_cmpswap_x2", "cmpswap_b64"),
        ("global_atomic_or", "or_b32"),
        ("global_atomic_swap_b64", "swap_b64"),
        ("global_atomic_add_u32", "add_u32"),
        ("global_atomic_max_num_f32", "max_f32"),
        ("global_atomic_pk_add_bf16", "pk_add_bf16"),
        ("global_atomic_add_f64", "add_f64"),
        ("global_atomic_sub_clamp_u32", "sub_clamp_u32"),
        ("global_atomic_csub_u32", "sub_clamp_u32"),
        ("ds_add_rtn_u32", "add_u32"),
        ("ds_add_f32", "add_f32"),
        ("ds_cmpst_rtn_b64", "cmpswap_b64"),
        ("ds_cmpstore_rtn_b32", "cmpswap_b32"),
        ("ds_wrxchg_rtn_b32", "swap_b32"),
        ("ds_storexchg_rtn_b64", "swap_b64"),
        ("ds_min_i32", "min_i32"),
        ("ds_read_b32", None),
        ("global_load_dword", None),
        ("v_add_u32", None),
    ],
)
def test_instructions_of_every_generation_name_their_operation(
    mnemonic: str, operation: str | None
) -> None:
    assert operation_of(mnemonic) == operation


def test_an_unknown_operation_is_named() -> None:
    space = AddressSpace()
    with pytest.raises(ValueError, match="'mul_u32'"):
        space.atomic("mul_u32", np.zeros(1, np.uint64), None, np.zeros((1, 1), np.uint32))
