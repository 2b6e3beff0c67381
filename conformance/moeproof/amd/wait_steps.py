"""Steps of the waits, as far as loads that go straight to the LDS are concerned."""

from __future__ import annotations

from moeproof.amd.decoding import Instruction
from moeproof.amd.direct_loads import MOST_UNDER_WAY
from moeproof.amd.operands import Step, Target
from moeproof.amd.state import Waves
from moeproof.amd.waits import counts_as_load, loads_left


def wait_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of a wait for vector memory loads; None for any other instruction."""
    left = loads_left(instruction, target.family)
    if left is None or left >= MOST_UNDER_WAY:
        return None
    count: int = left

    def step(waves: Waves) -> None:
        waves.gang.lds.direct_loads.wait(waves.index, count)

    return step


def counted(instruction: Instruction, target: Target, step: Step) -> Step:
    """The step, counted first if it is one that a wait for loads counts."""
    if not counts_as_load(instruction, target.family):
        return step

    def counted_step(waves: Waves) -> None:
        waves.gang.lds.direct_loads.count(waves.index)
        step(waves)

    return counted_step
