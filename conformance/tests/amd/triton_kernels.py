"""Triton kernels that are not ours, and their compilation for AMD GPUs that are not there.

Run as a program: `python triton_kernels.py gfx942 DIRECTORY` writes the code objects. It is one of
its own because Triton's interpreter, which the other tests use, is chosen when triton is imported.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x + y, mask=mask)


@triton.jit
def divide_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, tl.math.div_rn(x, y), mask=mask)


@triton.jit
def softmax_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offsets = tl.arange(0, BLOCK)
    mask = offsets < columns
    x = tl.load(x_ptr + row * columns + offsets, mask=mask, other=-float("inf")).to(tl.float32)
    numerator = tl.exp(x - tl.max(x, axis=0))
    tl.store(out_ptr + row * columns + offsets, numerator / tl.sum(numerator, axis=0), mask=mask)


@triton.jit
def layer_norm_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, columns, epsilon, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offsets = tl.arange(0, BLOCK)
    mask = offsets < columns
    x = tl.load(x_ptr + row * columns + offsets, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / columns
    centred = tl.where(mask, x - mean, 0.0)
    variance = tl.sum(centred * centred, axis=0) / columns
    weight = tl.load(weight_ptr + offsets, mask=mask)
    bias = tl.load(bias_ptr + offsets, mask=mask)
    out = centred * tl.rsqrt(variance + epsilon) * weight + bias
    tl.store(out_ptr + row * columns + offsets, out, mask=mask)


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr
):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    accumulator = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        inside = (k + depth) < K
        a = tl.load(
            a_ptr + rows[:, None] * K + (k + depth)[None, :],
            mask=(rows[:, None] < M) & inside[None, :],
            other=0.0,
        )
        b = tl.load(
            b_ptr + (k + depth)[:, None] * N + columns[None, :],
            mask=inside[:, None] & (columns[None, :] < N),
            other=0.0,
        )
        accumulator = tl.dot(a, b, accumulator)
    out = c_ptr + rows[:, None] * N + columns[None, :]
    tl.store(out, accumulator, mask=(rows[:, None] < M) & (columns[None, :] < N))


@triton.jit
def histogram_kernel(x_ptr, counts_ptr, n, BINS: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=0)
    tl.atomic_add(counts_ptr + tl.arange(0, BINS), tl.histogram(x, BINS, mask=mask))


@triton.jit
def atomics_kernel(x_ptr, sum_ptr, most_ptr, last_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=0)
    tl.atomic_add(sum_ptr + offsets % 8, x.to(tl.float32), mask=mask)
    tl.atomic_max(most_ptr + offsets % 8, x, mask=mask)
    before = tl.atomic_add(last_ptr, 1)
    tl.atomic_cas(last_ptr + 1 + tl.program_id(0), 0, before + 1)


@triton.jit
def scan_kernel(x_ptr, sum_ptr, most_ptr, COLUMNS: tl.constexpr):
    offsets = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    x = tl.load(x_ptr + offsets)
    tl.store(sum_ptr + offsets, tl.cumsum(x, axis=0))
    tl.store(most_ptr + offsets, tl.associative_scan(x, 0, _larger))


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def sort_kernel(x_ptr, out_ptr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    offsets = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    tl.store(out_ptr + offsets, tl.sort(tl.load(x_ptr + offsets)))


@triton.jit
def gather_kernel(x_ptr, index_ptr, out_ptr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    offsets = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    x, index = tl.load(x_ptr + offsets), tl.load(index_ptr + offsets)
    tl.store(out_ptr + offsets, tl.gather(x, index, axis=1))


@triton.jit
def argmax_kernel(x_ptr, most_ptr, where_ptr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    offsets = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    most, where = tl.max(tl.load(x_ptr + offsets), axis=1, return_indices=True)
    tl.store(most_ptr + tl.arange(0, ROWS), most)
    tl.store(where_ptr + tl.arange(0, ROWS), where)


@triton.jit
def element_kernel(x_ptr, out_ptr, period):
    program = tl.program_id(0)
    tl.store(out_ptr + program % period, tl.load(x_ptr + program))


@dataclass(frozen=True)
class Variant:
    """One compilation: types by argument in the signature's order, and compile-time constants.

    buffers: say that every tensor is below 2 GB, as Triton's JIT does of such tensors: the compiler
    then uses buffer instructions.
    """

    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any] = field(default_factory=dict)
    num_warps: int = 4
    buffers: bool = False


def _matmul(dtype: str, BM: int, BN: int, BK: int, **options: Any) -> Variant:
    pointers = {"a_ptr": f"*{dtype}", "b_ptr": f"*{dtype}", "c_ptr": "*fp32"}
    sizes = dict.fromkeys("MNK", "i32")
    return Variant(matmul_kernel, pointers | sizes, {"BM": BM, "BN": BN, "BK": BK}, **options)


_FLOAT_ROWS = {"x_ptr": "*fp32", "out_ptr": "*fp32", "columns": "i32"}

VARIANTS: dict[str, Variant] = {
    "add": Variant(
        add_kernel,
        {"x_ptr": "*fp32", "y_ptr": "*fp32", "out_ptr": "*fp32", "n": "i32"},
        {"BLOCK": 1024},
    ),
    "add_buffers": Variant(
        add_kernel,
        {"x_ptr": "*fp16", "y_ptr": "*fp16", "out_ptr": "*fp16", "n": "i32"},
        {"BLOCK": 1024},
        buffers=True,
    ),
    "divide": Variant(
        divide_kernel,
        {"x_ptr": "*fp32", "y_ptr": "*fp32", "out_ptr": "*fp32", "n": "i32"},
        {"BLOCK": 1024},
    ),
    "softmax": Variant(softmax_kernel, _FLOAT_ROWS, {"BLOCK": 1024}),
    "layer_norm": Variant(
        layer_norm_kernel,
        {
            "x_ptr": "*fp32",
            "weight_ptr": "*fp32",
            "bias_ptr": "*fp32",
            "out_ptr": "*fp32",
            "columns": "i32",
            "epsilon": "fp32",
        },
        {"BLOCK": 512},
    ),
    "matmul_fp16": _matmul("fp16", 64, 64, 32),
    "matmul_bf16": _matmul("bf16", 32, 64, 64, buffers=True),
    "matmul_fp32": _matmul("fp32", 32, 32, 32),
    "histogram": Variant(
        histogram_kernel,
        {"x_ptr": "*i32", "counts_ptr": "*i32", "n": "i32"},
        {"BINS": 64, "BLOCK": 512},
    ),
    "atomics": Variant(
        atomics_kernel,
        {"x_ptr": "*i32", "sum_ptr": "*fp32", "most_ptr": "*i32", "last_ptr": "*i32", "n": "i32"},
        {"BLOCK": 256},
    ),
    "scan": Variant(
        scan_kernel,
        {"x_ptr": "*i32", "sum_ptr": "*i32", "most_ptr": "*i32"},
        {"COLUMNS": 512},
    ),
    "sort": Variant(
        sort_kernel, {"x_ptr": "*fp32", "out_ptr": "*fp32"}, {"ROWS": 4, "COLUMNS": 128}
    ),
    "gather": Variant(
        gather_kernel,
        {"x_ptr": "*fp32", "index_ptr": "*i32", "out_ptr": "*fp32"},
        {"ROWS": 16, "COLUMNS": 64},
    ),
    "argmax": Variant(
        argmax_kernel,
        {"x_ptr": "*fp32", "most_ptr": "*fp32", "where_ptr": "*i32"},
        {"ROWS": 16, "COLUMNS": 128},
    ),
    "element": Variant(element_kernel, {"x_ptr": "*i32", "out_ptr": "*i32", "period": "i32"}),
}


def target_of(arch: str) -> GPUTarget:
    return GPUTarget("hip", arch, 32 if arch.startswith(("gfx11", "gfx12")) else 64)


def compile_variant(variant: Variant, arch: str) -> Any:
    signature = {name: variant.types.get(name, "constexpr") for name in variant.kernel.arg_names}
    order = list(signature)
    attributes = {
        (order.index(name),): [["tt.divisibility", 16]]
        + ([["tt.pointer_range", 32]] if variant.buffers else [])
        for name, kind in variant.types.items()
        if kind.startswith("*")
    }
    return triton.compile(
        ASTSource(variant.kernel, signature, variant.constants, attributes),
        target=target_of(arch),
        options={"num_warps": variant.num_warps},
    )


def write_variants(variants: dict[str, Variant], arch: str, directory: Path) -> None:
    """Of each variant its code object, NAME.hsaco, and what a launch must know, NAME.json.

    Also the assembly that LLVM printed, NAME.s.
    """
    for name, variant in variants.items():
        compiled = compile_variant(variant, arch)
        (directory / f"{name}.hsaco").write_bytes(compiled.asm["hsaco"])
        (directory / f"{name}.s").write_text(compiled.asm["amdgcn"])
        facts = {
            "kernel": compiled.name,
            "shared": compiled.metadata.shared,
            "num_warps": variant.num_warps,
            "arguments": [n for n in variant.kernel.arg_names if n in variant.types],
            "constants": variant.constants,
        }
        (directory / f"{name}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    write_variants(VARIANTS, sys.argv[1], Path(sys.argv[2]))
