"""One Triton kernel that runs instructions of the vector ALU by name, through inline assembly.

Run as a program: `python instruction_kernels.py gfx942 DIRECTORY`; see `triton_kernels`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import triton
import triton.language as tl
from triton_kernels import Variant, write_variants

# Of three 32-bit sources, the instructions that all the architectures have under one name.
INSTRUCTIONS = (
    "v_cvt_f32_i32 $0, $1",
    "v_cvt_f32_u32 $0, $1",
    "v_cvt_i32_f32 $0, $1",
    "v_cvt_u32_f32 $0, $1",
    "v_cvt_f16_f32 $0, $1",
    "v_cvt_f32_f16 $0, $1",
    "v_cvt_f32_ubyte0 $0, $1",
    "v_cvt_f32_ubyte2 $0, $1",
    "v_rndne_f32 $0, $1",
    "v_floor_f32 $0, $1",
    "v_ceil_f32 $0, $1",
    "v_trunc_f32 $0, $1",
    "v_fma_f32 $0, $1, $2, $3",
    "v_mul_f32 $0, $1, $2",
    "v_sub_f32 $0, -$1, |$2|",
    "v_ldexp_f32 $0, $1, $2",
    "v_mul_hi_u32 $0, $1, $2",
    "v_mul_hi_i32 $0, $1, $2",
    "v_mul_lo_u32 $0, $1, $2",
    "v_mad_u32_u24 $0, $1, $2, $3",
    "v_mad_i32_i24 $0, $1, $2, $3",
    "v_add3_u32 $0, $1, $2, $3",
    "v_lshl_add_u32 $0, $1, $2, $3",
    "v_add_lshl_u32 $0, $1, $2, $3",
    "v_lshl_or_b32 $0, $1, $2, $3",
    "v_and_or_b32 $0, $1, $2, $3",
    "v_or3_b32 $0, $1, $2, $3",
    "v_xad_u32 $0, $1, $2, $3",
    "v_bfe_u32 $0, $1, $2, $3",
    "v_bfe_i32 $0, $1, $2, $3",
    "v_bfi_b32 $0, $1, $2, $3",
    "v_alignbit_b32 $0, $1, $2, $3",
    "v_alignbyte_b32 $0, $1, $2, $3",
    "v_perm_b32 $0, $1, $2, $3",
    "v_med3_i32 $0, $1, $2, $3",
    "v_min3_u32 $0, $1, $2, $3",
    "v_max3_i32 $0, $1, $2, $3",
    "v_bcnt_u32_b32 $0, $1, $2",
    "v_bfrev_b32 $0, $1",
    "v_ashrrev_i32 $0, $1, $2",
    "v_lshrrev_b32 $0, $1, $2",
    "v_lshlrev_b32 $0, $1, $2",
)


@triton.jit
def instructions_kernel(a_ptr, b_ptr, c_ptr, out_ptr, NAMES: tl.constexpr, N: tl.constexpr):
    offsets = tl.arange(0, N)
    a, b, c = tl.load(a_ptr + offsets), tl.load(b_ptr + offsets), tl.load(c_ptr + offsets)
    for i in tl.static_range(len(NAMES)):
        result = tl.inline_asm_elementwise(
            NAMES[i], "=&v,v,v,v", [a, b, c], dtype=tl.int32, is_pure=True, pack=1
        )
        tl.store(out_ptr + i * N + offsets, result)


# RDNA's assembler wants these to name half registers.
HALF_REGISTERS = ("v_cvt_f16_f32", "v_cvt_f32_f16", "v_alignbit_b32", "v_alignbyte_b32")


def instructions_of(arch: str) -> tuple[str, ...]:
    if arch.startswith("gfx9"):
        return INSTRUCTIONS
    return tuple(line for line in INSTRUCTIONS if not line.startswith(HALF_REGISTERS))


def variants_for(arch: str) -> dict[str, Variant]:
    types = dict.fromkeys(("a_ptr", "b_ptr", "c_ptr", "out_ptr"), "*i32")
    constants = {"NAMES": instructions_of(arch), "N": 512}
    return {"instructions": Variant(instructions_kernel, types, constants)}


if __name__ == "__main__":
    write_variants(variants_for(sys.argv[1]), sys.argv[1], Path(sys.argv[2]))
