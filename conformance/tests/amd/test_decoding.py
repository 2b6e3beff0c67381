"""Decoding, against the assembly that LLVM printed of the same code.

LLVM's tables of encodings are its own; ours come from AMD's ISA files through tinygrad.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from moeproof.amd.decoding import Instruction, disassemble
from moeproof.amd.memory_steps import returns_value

ARCHITECTURES = ["gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201"]
_PADDING = ("s_nop", "s_code_end")
_SUFFIXES = re.compile(r"(_e32|_e64|_sdwa|_dpp)+$")
# LLVM's names for what AMD's ISA files call otherwise.
_ALIASES = {
    "v_accvgpr_read_b32": "v_accvgpr_read",
    "v_accvgpr_write_b32": "v_accvgpr_write",
    "v_fma_mix_f32": "v_mad_mix_f32",
    "v_fma_mixlo_f16": "v_mad_mixlo_f16",
    "v_fma_mixhi_f16": "v_mad_mixhi_f16",
    "buffer_wbinvl1_vol": "buffer_inv",
    "v_mfma_f32_16x16x16bf16_1k": "v_mfma_f32_16x16x16_bf16",
    "v_mfma_f32_32x32x8bf16_1k": "v_mfma_f32_32x32x8_bf16",
    "v_mfma_f32_16x16x16f16": "v_mfma_f32_16x16x16_f16",
    "v_mfma_f32_32x32x8f16": "v_mfma_f32_32x32x8_f16",
    "v_mfma_f32_16x16x4f32": "v_mfma_f32_16x16x4_f32",
    "v_mfma_f32_32x32x2f32": "v_mfma_f32_32x32x2_f32",
}
_REGISTER = re.compile(r"(?<![\w.])(?P<kind>[vsa])(?:(?P<one>\d+)|\[(?P<first>\d+):\d+\])(?!\w)")
_REGISTER_FIELDS = (
    *("vdst", "sdst", "src0", "src1", "src2", "scale_src0", "scale_src1"),
    *("addr", "data", "data0", "data1", "vdata", "srsrc", "saddr", "sbase", "sdata"),
)

# In RDNA's small formats, bit 7 of a 16-bit operand's register names the half.
_HALVES = ("VOP1", "VOP2", "VOPC")


def printed(assembly: str) -> Iterator[tuple[list[str], str]]:
    """The names on each line of an assembly listing, and the rest of it."""
    for line in assembly.splitlines():
        text = line.split(";")[0].strip()
        if not line.startswith("\t") or not text or text.startswith((".", ";")):
            continue
        names = [part.split()[0] for part in text.split(" :: ")]
        if names[0] not in _PADDING:
            yield [_ALIASES.get(n, n) for n in (_SUFFIXES.sub("", n) for n in names)], text


def registers_of(instruction: Instruction) -> set[tuple[str, int]]:
    """The kind and the number of the first register of each operand."""
    found = set()
    fields = instruction.fields
    unused = set()
    returns = "atomic" not in instruction.name or returns_value(instruction)
    if not returns or "_lds_" in instruction.name:
        unused.add("vdst")
    if "SCRATCH" in instruction.encoding and not fields["sve"]:  # no register for the address
        unused.add("addr")
    for name in _REGISTER_FIELDS:
        known = name in instruction.sizes or name.startswith("scale_")
        if name not in fields or name in unused or not known:
            continue
        operand = fields[name]
        if operand < 106:
            found.add(("s", operand))
        elif operand >= 256:
            half = instruction.sizes[name] == 16 and instruction.encoding[:4] in _HALVES
            found.add(("v", (operand - 256) % (128 if half else 256)))
    return found


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("program", ["triton_kernels.py", "conversion_kernels.py"])
def test_names_and_registers_are_those_of_the_assembly(
    kernels_of: Callable[..., Any], arch: str, program: str
) -> None:
    kernels = kernels_of(arch, program)
    compared = 0
    for listing in sorted(kernels.directory.glob("*.s")):
        expected = list(printed(listing.read_text()))
        decoded = [i for i in disassemble(kernels.code(listing.stem)) if i.name not in _PADDING]
        assert len(decoded) == len(expected)
        for instruction, (names, text) in zip(decoded, expected, strict=True):
            assert [_ALIASES.get(n, n) for n in instruction.name.split("::")] == names, text
            if "::" not in instruction.name and not instruction.encoding.startswith("SMEM"):
                named = {
                    ("v" if m["kind"] == "a" else m["kind"], int(m["one"] or m["first"]))
                    for m in _REGISTER.finditer(text)
                }
                assert registers_of(instruction) == named, (text, str(instruction))
            compared += 1
    assert compared > 1000
