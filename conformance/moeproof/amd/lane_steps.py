"""Steps of the instructions that move values between lanes."""

from __future__ import annotations

import numpy as np

from moeproof.amd.decoding import Instruction
from moeproof.amd.operands import Step, Target, source
from moeproof.amd.state import FIRST_VECTOR, Waves


def lane_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of an instruction of this module; None for any other."""
    if instruction.name == "v_readfirstlane_b32":
        return _read_first_lane(instruction, target)
    return None


def _read_first_lane(instruction: Instruction, target: Target) -> Step:
    operand = source(instruction, "src0", target)
    result = instruction.fields["vdst"] % FIRST_VECTOR

    def step(waves: Waves) -> None:
        value = np.broadcast_to(waves.u32[operand], (waves.waves, waves.lanes))
        if waves.mask is True:
            waves.scalar[:, result] = value[:, 0]
        else:
            first = np.argmax(waves.full_mask(), axis=1)  # lane 0 when none is active
            waves.scalar[:, result] = value[np.arange(waves.waves), first]

    return step
