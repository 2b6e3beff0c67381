"""How fast AMD code is emulated: ``python conformance/benchmarks/emulator_speed.py gfx942``.

Runs moe_dispatch's expert layer in bfloat16, and prints

- for each kernel, its instructions (counting each wave) for a second of processor time on one core,
  and what their translation took before;
- for the gate-and-up projection, the same of its main loop alone: of what a launch with sums twice
  as long does and takes more; and which instructions take the time;
- for both projections, with four times as many tokens, how much sooner they end in two processes
  than in one.

All times are the shortest of several, taken in turn. Others at work on the machine disturb the last
figure most: it needs two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch

from moeproof.amd import driver
from moeproof.amd.decoding import ARCHITECTURES, Instruction
from moeproof.amd.execution import Scheduler
from moeproof.amd.launch import LaunchFigures, launch
from moeproof.amd.state import Waves
from moeproof.amd.translate import Block

TOKENS, HIDDEN, INTERMEDIATE, EXPERTS, TOP_K = 128, 1024, 256, 4, 2
REPETITIONS = 5
GATE_UP, DOWN = "gate_up_kernel", "down_kernel"
_CLASSES = {
    "matrix products": ("v_mfma", "v_wmma"),
    "LDS": ("ds_",),
    "global memory": ("buffer_", "flat_", "global_", "s_buffer_load", "s_load"),
    "scalar": ("s_",),
}


@dataclass
class Launches:
    """Of one kernel in one layer, repeated. wall: shortest time by number of processes."""

    figures: list[LaunchFigures] = field(default_factory=list)
    wall: dict[int, float] = field(default_factory=dict)

    @property
    def instructions(self) -> int:
        return self.figures[0].wave_instructions

    @property
    def seconds(self) -> float:
        """Of processor time, in one process."""
        return min(figures.seconds_executing for figures in self.figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", choices=ARCHITECTURES)
    parser.add_argument("--here", action="store_true", help="in this process, for a profiler")
    options = parser.parse_args()
    for arch in options.architectures or ARCHITECTURES:
        if options.here:
            _measure(arch)
        else:  # Triton keeps the first target that it was given
            subprocess.run([sys.executable, __file__, "--here", arch], check=True)


def _measure(arch: str) -> None:
    driver.EmulatedGpu(arch, processes=1).install()
    layer, longer = _layer(HIDDEN), _layer(2 * HIDDEN)
    for kernel, launches in layer.items():
        first = launches.figures[0]
        print(
            f"{arch} {kernel}: {first.waves} waves, {launches.instructions:,} instructions, "
            f"{launches.instructions / launches.seconds:,.0f} a second; translated in "
            f"{first.seconds_translating:.2f} s"
        )
    loop = longer[GATE_UP].instructions - layer[GATE_UP].instructions
    seconds = longer[GATE_UP].seconds - layer[GATE_UP].seconds
    print(f"{arch} {GATE_UP}, main loop: {loop:,} instructions, {loop / seconds:,.0f} a second")
    shares = _shares_of_time(HIDDEN)
    print(f"{arch} {GATE_UP}, time: {', '.join(f'{k} {v:.0%}' for k, v in shares.items())}")
    several = _layer(HIDDEN, tokens=4 * TOKENS, processes=(1, 2))
    for kernel in (GATE_UP, DOWN):
        one, two = (several[kernel].wall[processes] for processes in (1, 2))
        print(
            f"{arch} {kernel}, {several[kernel].figures[0].waves} waves: {one:.2f} s in one "
            f"process, {two:.2f} s in two, {one / two:.2f} times as fast",
            flush=True,
        )


def _layer(
    hidden: int, *, tokens: int = TOKENS, processes: Sequence[int] = (1,)
) -> Mapping[str, Launches]:
    """The kernels of a layer, by name, the projections in each number of processes."""
    found: dict[str, Launches] = defaultdict(Launches)

    def timed(code: Any, kernel: str, **options: Any) -> LaunchFigures:
        # The projections only read what they do not write: they can be repeated.
        for number in processes if kernel in (GATE_UP, DOWN) else (1,):
            started = time.perf_counter()
            figures = launch(code, kernel, **{**options, "processes": number})
            seconds, wall = time.perf_counter() - started, found[kernel].wall
            wall[number] = min(seconds, wall.get(number, seconds))
            if number == 1:
                found[kernel].figures.append(figures)
        return figures

    with patch.object(driver, "launch", timed):
        for _ in range(REPETITIONS):
            _run_layer(hidden, tokens)
    return found


def _run_layer(hidden: int, tokens: int) -> None:
    from moe_dispatch import fused_experts

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(torch.bfloat16)

    fused_experts(
        draw(tokens, hidden),
        draw(EXPERTS, 2 * INTERMEDIATE, hidden),
        draw(EXPERTS, hidden, INTERMEDIATE),
        torch.randint(0, EXPERTS, (tokens, TOP_K), generator=generator),
        torch.full((tokens, TOP_K), 0.5),
    )


def _shares_of_time(hidden: int) -> Mapping[str, float]:
    """Of the gate-and-up projection's time, by class of instruction, the largest first."""
    seconds: dict[str, float] = defaultdict(float)
    execute = Scheduler._execute

    def timed(self: Scheduler, block: Block, waves: Waves) -> None:
        if self.program.kernel.name != GATE_UP:
            execute(self, block, waves)
            return
        for instruction, step in zip(block.origins, block.steps, strict=True):
            started = time.perf_counter()
            step(waves)
            seconds[_class_of(instruction)] += time.perf_counter() - started

    with patch.object(Scheduler, "_execute", timed):
        _run_layer(hidden, TOKENS)
    total = sum(seconds.values())
    largest = sorted(seconds.items(), key=lambda item: -item[1])
    return {name: spent / total for name, spent in largest}


def _class_of(instruction: Instruction) -> str:
    for name, prefixes in _CLASSES.items():
        if instruction.name.startswith(prefixes):
            return name
    return "vector"


if __name__ == "__main__":
    main()
