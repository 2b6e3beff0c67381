"""Steps of the matrix instructions (MFMA, WMMA): operands fetched and results stored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.decoding import Instruction
from moeproof.amd.matrix import matrix_instruction
from moeproof.amd.operands import Step, Target, fetch, source, store, unknown
from moeproof.amd.state import FIRST_CONSTANT, FIRST_VECTOR, Waves

Dwords = NDArray[np.uint32]


def matrix_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of a matrix instruction; None for any other. EXEC does not matter to it."""
    if instruction.name.startswith("v_accvgpr_"):
        return _accumulator_move(instruction, target)
    if not instruction.name.startswith(("v_mfma", "v_wmma", "v_smfmac", "v_swmmac")):
        return None
    fields = instruction.fields
    multiply = matrix_instruction(
        instruction.name,
        target.arch,
        cbsz=fields.get("cbsz", 0),
        blgp=fields.get("blgp", 0),
    )
    if multiply is None:
        raise unknown(instruction, "not emulated")
    if instruction.name.startswith("v_wmma") and (fields["neg"] or fields["neg_hi"]):
        raise unknown(instruction, "a sign modifier on a matrix")
    accumulators = fields.get("acc", 0)
    a = _registers(instruction, "src0", multiply.a.registers, target, accumulators & 1)
    b = _registers(instruction, "src1", multiply.b.registers, target, accumulators >> 1)
    in_accumulators = fields.get("acc_cd", 0)
    c = _addend(instruction, multiply.result.registers, target, in_accumulators)
    first = _register(fields["vdst"], target, in_accumulators)
    result = slice(first, first + multiply.result.registers)
    scales = _scales(instruction)

    def step(waves: Waves) -> None:
        multiply.execute(
            a(waves),
            b(waves),
            c(waves),
            **{name: scale(waves) for name, scale in scales.items()},
            out=waves.vector[result],
        )

    return step


def _accumulator_move(instruction: Instruction, target: Target) -> Step:
    """v_accvgpr_read, _write and _mov: the opcode says which side is an AccVGPR."""
    reads = not instruction.name.startswith("v_accvgpr_write")
    writes = not instruction.name.startswith("v_accvgpr_read")
    operand = instruction.fields["src0"]
    if reads:
        operand += target.accumulator_offset
    value = fetch("u32", operand)
    put = store("u32", instruction.fields["vdst"] + target.accumulator_offset * writes)
    return lambda waves: put(waves, value(waves))


def _register(operand: int, target: Target, accumulator: int) -> int:
    return operand - FIRST_VECTOR + (target.accumulator_offset if accumulator else 0)


def _registers(
    instruction: Instruction, name: str, count: int, target: Target, accumulator: int
) -> Callable[[Waves], Dwords]:
    operand = instruction.fields[name]
    if operand < FIRST_VECTOR:
        raise unknown(instruction, "a matrix that is no vector register")
    first = _register(operand, target, accumulator)
    return lambda waves: waves.vector[first : first + count]


def _addend(
    instruction: Instruction, count: int, target: Target, accumulator: int
) -> Callable[[Waves], Dwords | np.generic]:
    operand = instruction.fields["src2"]
    if operand >= FIRST_VECTOR:
        return _registers(instruction, "src2", count, target, accumulator)
    if operand < FIRST_CONSTANT:
        raise unknown(instruction, "a scalar register as a matrix")
    constant = source(instruction, "src2", target)
    kind = "i32" if "_i32_" in instruction.name else "f32"
    return lambda waves: getattr(waves, kind)[constant][()]


def _scales(instruction: Instruction) -> dict[str, Callable[[Waves], NDArray[np.uint8]]]:
    """The scale bytes of v_mfma_scale: CDNA4 ISA, "VOP3PX2"."""
    if "_scale_" not in instruction.name:
        return {}
    fields = instruction.fields
    scales: dict[str, Callable[[Waves], NDArray[np.uint8]]] = {}
    for index, name in enumerate(("scale_a", "scale_b")):
        operand = fields[f"scale_src{index}"]
        byte = fields["opsel"] >> index & 1 | (fields["opsel_hi"] >> index & 1) << 1
        scales[name] = _scale(operand, byte)
    return scales


def _scale(operand: int, byte: int) -> Callable[[Waves], NDArray[np.uint8]]:
    shift = np.uint32(8 * byte)

    def of(waves: Waves) -> NDArray[np.uint8]:
        value = np.broadcast_to(waves.u32[operand], (waves.waves, waves.lanes))
        return (value >> shift).astype(np.uint8)

    return of
