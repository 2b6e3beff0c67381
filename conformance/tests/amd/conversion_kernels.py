"""Triton kernels around narrow floats, and their compilation for AMD GPUs that are not there.

Run as a program: `python conversion_kernels.py gfx942 DIRECTORY`; see `triton_kernels`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton_kernels import Variant, write_variants


@triton.jit
def convert_kernel(x_ptr, out_ptr, N: tl.constexpr):
    offsets = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets).to(out_ptr.dtype.element_ty))


@triton.jit
def quantise_kernel(x_ptr, scale_ptr, out_ptr, LARGEST: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0)
    offsets = row * COLUMNS + tl.arange(0, COLUMNS)
    x = tl.load(x_ptr + offsets)
    scale = tl.max(tl.abs(x), axis=0) / LARGEST
    tl.store(scale_ptr + row, scale)
    tl.store(out_ptr + offsets, (x / scale).to(out_ptr.dtype.element_ty))


@triton.jit
def dot_kernel(a_ptr, b_ptr, c_ptr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    rows, columns, depth = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    a = tl.load(a_ptr + rows[:, None] * K + depth[None, :])
    b = tl.load(b_ptr + depth[:, None] * N + columns[None, :])
    c = tl.dot(a, b).to(c_ptr.dtype.element_ty)
    tl.store(c_ptr + rows[:, None] * N + columns[None, :], c)


@triton.jit
def dot_scaled_kernel(
    a_ptr,
    a_scale_ptr,
    b_ptr,
    b_scale_ptr,
    c_ptr,
    A: tl.constexpr,
    B: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
):
    """A's values in a byte lie along K, B's too: two of four bits, one of eight."""
    A_BYTES: tl.constexpr = K // 2 if A == "e2m1" else K
    B_BYTES: tl.constexpr = K // 2 if B == "e2m1" else K
    rows, columns, blocks = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K // 32)
    a = tl.load(a_ptr + rows[:, None] * A_BYTES + tl.arange(0, A_BYTES)[None, :])
    b = tl.load(b_ptr + tl.arange(0, B_BYTES)[:, None] * N + columns[None, :])
    a_scale = tl.load(a_scale_ptr + rows[:, None] * (K // 32) + blocks[None, :])
    b_scale = tl.load(b_scale_ptr + columns[:, None] * (K // 32) + blocks[None, :])
    c = tl.dot_scaled(a, a_scale, A, b, b_scale, B)
    tl.store(c_ptr + rows[:, None] * N + columns[None, :], c)


def _convert(source: str, to: str) -> Variant:
    return Variant(
        convert_kernel, {"x_ptr": f"*{source}", "out_ptr": f"*{to}"}, {"N": 256}, num_warps=1
    )


def _quantise(to: str, largest: float) -> Variant:
    types = {"x_ptr": "*fp32", "scale_ptr": "*fp32", "out_ptr": f"*{to}"}
    return Variant(quantise_kernel, types, {"LARGEST": largest, "COLUMNS": 512})


def _dot(kind: str, size: int, out: str = "fp32") -> Variant:
    types = {"a_ptr": f"*{kind}", "b_ptr": f"*{kind}", "c_ptr": f"*{out}"}
    return Variant(dot_kernel, types, {"M": size, "N": size, "K": 64})


def _dot_scaled(a: str, b: str, M: int, N: int, K: int) -> Variant:
    kinds = {"e4m3": "u8", "e5m2": "u8", "e2m1": "u8"}
    types = {
        "a_ptr": f"*{kinds[a]}",
        "a_scale_ptr": "*u8",
        "b_ptr": f"*{kinds[b]}",
        "b_scale_ptr": "*u8",
        "c_ptr": "*fp32",
    }
    return Variant(dot_scaled_kernel, types, {"A": a, "B": b, "M": M, "N": N, "K": K})


def variants_for(arch: str) -> dict[str, Variant]:
    """gfx942 has 8-bit formats of its own; scaled products are gfx950's."""
    large, small = ("fp8e4b8", "fp8e5b16") if arch == "gfx942" else ("fp8e4nv", "fp8e5")
    variants: dict[str, Any] = {}
    for narrow in (large, small):
        variants[f"fp32 to {narrow}"] = _convert("fp32", narrow)
        for wide in ("fp32", "bf16", "fp16"):
            variants[f"{narrow} to {wide}"] = _convert(narrow, wide)
    for source, to in (("fp32", "bf16"), ("fp32", "fp16"), ("bf16", "fp32"), ("fp16", "fp32")):
        variants[f"{source} to {to}"] = _convert(source, to)
    variants[f"quantise to {large}"] = _quantise(large, 240.0 if arch == "gfx942" else 448.0)
    for kind in ("bf16", "fp16", "fp32", large, small):
        for size in (16, 32, 64):
            variants[f"dot {kind} {size}"] = _dot(kind, size)
    variants["dot bf16 to bf16"] = _dot("bf16", 64, out="bf16")
    if arch == "gfx950":
        for a in ("e4m3", "e5m2", "e2m1"):
            for b in ("e4m3", "e2m1"):
                for size in (16, 32):
                    variants[f"dot_scaled {a} {b} {size}"] = _dot_scaled(a, b, size, size, 256)
    return variants


if __name__ == "__main__":
    write_variants(variants_for(sys.argv[1]), sys.argv[1], Path(sys.argv[2]))
