"""How fast AMD code is emulated: ``python conformance/benchmarks/emulator_speed.py gfx942``.

Runs moe_dispatch's expert layer, in bfloat16 and with sums long enough for the main loops to
dominate, and prints for each kernel the instructions executed (counting each wave) for a second of
processor time on one core, and what their translation took before.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from typing import Any

import torch

from moeproof.amd import driver
from moeproof.amd.decoding import ARCHITECTURES
from moeproof.amd.launch import LaunchFigures

TOKENS, HIDDEN, INTERMEDIATE, EXPERTS, TOP_K = 128, 1024, 256, 4, 2


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
    from moe_dispatch import fused_experts

    launches: dict[str, list[LaunchFigures]] = defaultdict(list)
    launch = driver.launch

    def recorded(code: Any, kernel: str, **options: Any) -> LaunchFigures:
        figures = launch(code, kernel, **options)
        launches[kernel].append(figures)
        return figures

    driver.launch = recorded
    driver.EmulatedGpu(arch).install()
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(torch.bfloat16)

    arguments = (
        draw(TOKENS, HIDDEN),
        draw(EXPERTS, 2 * INTERMEDIATE, HIDDEN),
        draw(EXPERTS, HIDDEN, INTERMEDIATE),
        torch.randint(0, EXPERTS, (TOKENS, TOP_K), generator=generator),
        torch.full((TOKENS, TOP_K), 0.5),
    )
    for _ in range(2):
        fused_experts(*arguments)
    for kernel, (first, second, *_) in launches.items():
        speed = second.wave_instructions / second.seconds_executing
        print(
            f"{arch} {kernel}: {second.waves} waves, {second.wave_instructions:,} instructions, "
            f"{speed:,.0f} a second; translated in {first.seconds_translating:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
