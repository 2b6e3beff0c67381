"""A matrix product whose lanes hold more sums than there are registers.

Run as a program, as triton_kernels.py is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from triton_kernels import Variant, matmul_kernel, write_variants


def variants_for(arch: str) -> dict[str, Variant]:
    """One wave for the whole tile."""
    columns, sums = (128, 32) if arch.startswith("gfx9") else (64, 16)
    types = {
        "a_ptr": "*fp16",
        "b_ptr": "*fp16",
        "c_ptr": "*fp32",
        "M": "i32",
        "N": "i32",
        "K": "i32",
    }
    constants = {"BM": 128, "BN": columns, "BK": sums}
    return {"matmul": Variant(matmul_kernel, types, constants, num_warps=1)}


if __name__ == "__main__":
    write_variants(variants_for(sys.argv[1]), sys.argv[1], Path(sys.argv[2]))
