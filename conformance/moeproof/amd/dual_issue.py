"""Steps of RDNA's dual-issue instructions (VOPD): two operations that read before they write."""

from __future__ import annotations

import numpy as np

from moeproof.amd.decoding import Instruction
from moeproof.amd.operands import Fetch, Step, Store, Target, unknown
from moeproof.amd.state import Waves
from moeproof.amd.vector_alu import computation
from moeproof.amd.vector_masks import selection
from moeproof.amd.vector_operations import OPERATIONS


def dual_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of a dual-issue instruction; None for any other."""
    if not instruction.encoding.startswith("VOPD"):
        return None
    name_x, name_y = instruction.name.split("::")
    compute_x, put_x = _half(instruction, "x", name_x, target)
    compute_y, put_y = _half(instruction, "y", name_y, target)

    def step(waves: Waves) -> None:
        x = compute_x(waves)
        # A move's value is a view of its source, which the other operation may write.
        y = np.array(compute_y(waves))
        put_x(waves, x)
        put_y(waves, y)

    return step


def _half(instruction: Instruction, letter: str, name: str, target: Target) -> tuple[Fetch, Store]:
    fields = instruction.fields
    alone = Instruction(
        address=instruction.address,
        size=instruction.size,
        name=name.replace("v_dual_", "v_"),
        encoding="VOP2",
        fields={
            "src0": fields[f"src{letter}0"],
            "src1": fields[f"vsrc{letter}1"],
            "vdst": fields[f"vdst{letter}"],
        },
        literal=instruction.literal,
    )
    if alone.name == "v_cndmask_b32":
        return selection(alone, target)
    if alone.name not in OPERATIONS:
        raise unknown(instruction, "not emulated")
    return computation(alone, target, OPERATIONS[alone.name])
