"""Dots, occupancy and the figures of a main loop, on code written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moeproof.architectures import ARCHITECTURES
from moeproof.targets.dots import Dot, read_dots
from moeproof.targets.facts import Configuration, KernelFacts, Resources, read_facts
from moeproof.targets.gcn import Gcn
from moeproof.targets.instruction_set import InstructionSet
from moeproof.targets.listing import Instruction, read_listing
from moeproof.targets.occupancy import Occupancy, estimate_occupancy
from moeproof.targets.rules import needs_matrix_unit, violations
from moeproof.targets.sass import Sass

_TTIR = """
tt.func public @kernel(%x: !tt.ptr<bf16> {tt.divisibility = 16 : i32}) {
%f = tt.dot %a, %b, %c, inputPrecision = tf32 : tensor<2x8xf32> * tensor<8x4xf32> -> tensor<2x4xf32>
  %sum = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %zero) -> (tensor<64x64xf32>)  : i32 {
    %d = tt.dot %a, %b, %acc : tensor<64x128xbf16> * tensor<128x64xbf16> -> tensor<64x64xf32>
    %e = scf.if %cond -> (i32) {
      scf.yield %c : i32
    } else {
      scf.yield %d : i32
    }
    scf.yield %d : tensor<64x64xf32>
  } loc(#loc)
  %last = tt.dot %a, %b, %c : tensor<16x16xf16> * tensor<16x16xf16> -> tensor<16x16xf32>
}
"""
_GCN = Gcn()
_CONFIGURATION = Configuration("gfx942", "kernel", "bf16", "T1", {}, 4, 2, "0")


def _facts(
    *instructions: Instruction | str,
    shared: int = 0,
    dots: tuple[Dot, ...] = (),
    questions: InstructionSet = _GCN,
) -> KernelFacts:
    resources = Resources({"vector": 100, "accumulation": 0, "scalar": 30}, 0, shared)
    return read_facts(_CONFIGURATION, resources, read_listing(instructions), questions, dots=dots)


def _loop(*body: Instruction) -> tuple[Instruction | str, ...]:
    return ("top", *body, Instruction("s_cbranch_scc1", "top", label="top"))


_LOAD = Instruction("buffer_load_dwordx4", "v[4:7], v3, s[4:7], 0 offen")
_MATRIX = Instruction("v_mfma_f32_32x32x8_bf16", "v[16:31], v[8:9], v[10:11], v[16:31]")
_USE = Instruction("ds_write_b128", "v1, v[4:7]")
_DOT = Dot(64, 64, 16, "bf16", "ieee", 0)


def test_dots_are_read_with_their_loops() -> None:
    assert read_dots(_TTIR) == (
        Dot(2, 4, 8, "f32", "tf32", None),
        Dot(64, 64, 128, "bf16", "ieee", 0),
        Dot(16, 16, 16, "f16", "ieee", None),
    )


@pytest.mark.parametrize(
    ("dot", "target", "needed"),
    [
        (Dot(16, 16, 16, "bf16", "ieee", 0), "gfx1100", True),
        (Dot(16, 16, 16, "f8E4M3FN", "ieee", 0), "gfx90a", True),
        (Dot(16, 16, 16, "f32", "ieee", 0), "sm_90", False),
        (Dot(16, 16, 16, "f32", "tf32", 0), "sm_90", True),
        (Dot(16, 16, 16, "f32", "tf32", 0), "gfx942", True),
        (Dot(16, 16, 16, "f32", "tf32", 0), "gfx950", False),
    ],
)
def test_which_dots_need_the_matrix_unit(dot: Dot, target: str, needed: bool) -> None:
    assert needs_matrix_unit(dot, target) is needed


def test_main_loop_figures() -> None:
    loop = _facts(*_loop(_LOAD, _MATRIX, _MATRIX, _USE), dots=(_DOT,)).main_loop
    assert loop is not None
    assert loop.matrix == 2
    assert loop.k == 16
    assert loop.work == 2 * 32 * 32 * 8 * 4 / (64 * 64 * 16)
    assert loop.global_loads == {("registers", 16): 1}
    assert loop.matrix_ahead == 2


def test_work_is_not_told_where_dots_are_in_two_loops() -> None:
    loop = _facts(*_loop(_MATRIX), dots=(_DOT, replace(_DOT, loop=1))).main_loop
    assert loop is not None
    assert loop.work is None


def test_distance_goes_round_the_loop() -> None:
    loop = _facts(*_loop(_MATRIX, _USE, _LOAD, _MATRIX), dots=(_DOT,)).main_loop
    assert loop is not None
    assert loop.matrix_ahead == 2


def test_no_violation() -> None:
    assert violations(_facts(*_loop(_LOAD, _MATRIX, _USE), dots=(_DOT,))) == ()


def test_shared_memory_over_the_limit() -> None:
    (wrong,) = violations(_facts(_MATRIX, shared=65_537))
    assert wrong == "65,537 bytes of shared memory; the limit is 65,536"


def test_spill_in_the_main_loop() -> None:
    spill = Instruction("scratch_store_dword", "off, v1, s32")
    assert violations(_facts(spill, *_loop(_MATRIX))) == ()
    (wrong,) = violations(_facts(*_loop(_MATRIX, spill)))
    assert "main loop spill" in wrong
    (wrong,) = violations(_facts(*_loop(spill)))
    assert "a loop spill" in wrong


def test_missing_waits() -> None:
    facts = replace(_facts(_MATRIX), missing_waits=("v_add reads v1", "v_sub reads v2"))
    (wrong,) = violations(facts)
    assert wrong == "2 waits are missing, the first: v_add reads v1"


_PRODUCT = Instruction("HGMMA.64x128x16.F32.BF16", "R24, gdesc[UR16], R24, gsb0")
_WAIT = Instruction("WARPGROUP.DEPBAR.LE", "gsb0, 0x0")
_ONE_IN_FLIGHT = Instruction("WARPGROUP.DEPBAR.LE", "gsb0, 0x1")


@pytest.mark.parametrize(
    ("body", "serial"),
    [
        pytest.param((_PRODUCT, _WAIT) * 4, True, id="each"),
        pytest.param((*(_PRODUCT,) * 4, _WAIT), False, id="dot-by-dot"),
        pytest.param((_PRODUCT, _ONE_IN_FLIGHT) * 4, False, id="in-flight"),
        # The dot has no other product that could be under way.
        pytest.param((_PRODUCT, _WAIT), False, id="one-a-dot"),
        pytest.param((_PRODUCT, _WAIT, _ONE_IN_FLIGHT, _PRODUCT), False, id="one-of-two"),
    ],
)
def test_products_that_wait_for_each_other(body: tuple[Instruction, ...], serial: bool) -> None:
    branch = Instruction("BRA", "`(.L_x_1)", label=".L_x_1")
    dot = Dot(128, 128, 64, "bf16", "ieee", 0)
    facts = _facts(".L_x_1", *body, branch, dots=(dot,), questions=Sass())
    words = "each of the 4 matrix instructions of the main loop waits for the one before"
    assert violations(facts) == ((words,) if serial else ())


def test_dot_without_matrix_instruction() -> None:
    fma = Instruction("v_fma_f32", "v0, v1, v2, v3")
    (wrong,) = violations(_facts(*_loop(fma), dots=(_DOT,)))
    assert wrong == "no matrix instruction for a dot of 64x64x16 in bf16 (ieee)"


@pytest.mark.parametrize(
    ("target", "warps", "registers", "shared", "occupancy"),
    [
        # CUDA's occupancy calculator: 65,536 registers; 4 warps of 128 each take a quarter.
        ("sm_90", 4, 128, 0, Occupancy(16, 64, "registers")),
        ("sm_90", 4, 32, 100 * 1024, Occupancy(8, 64, "shared memory")),
        ("sm_90", 4, 32, 0, Occupancy(64, 64, "hardware")),
        # CDNA: 512 registers a lane; 129 are rounded up to 136.
        ("gfx942", 4, 129, 0, Occupancy(12, 32, "registers")),
        ("gfx942", 4, 64, 48 * 1024, Occupancy(4, 32, "shared memory")),
        ("gfx1100", 8, 256, 0, Occupancy(8, 32, "registers")),
    ],
)
def test_occupancy(
    target: str, warps: int, registers: int, shared: int, occupancy: Occupancy
) -> None:
    estimate = estimate_occupancy(
        ARCHITECTURES[target], num_warps=warps, registers=registers, shared_bytes=shared
    )
    assert estimate == occupancy
