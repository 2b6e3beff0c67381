"""The whole pipeline of our kernels: the order of waves changes no bit of its result."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
import torch
from moe_dispatch import fused_moe
from moeproof.amd.driver import EmulatedGpu

arch, seed = sys.argv[1], sys.argv[2]
gpu = EmulatedGpu(arch, wave_order_seed=None if seed == "together" else int(seed))
gpu.install()
generator = torch.Generator().manual_seed(0)
draw = lambda *shape: (torch.randn(shape, generator=generator) / shape[-1] ** 0.5).bfloat16()
tokens, hidden, intermediate, experts = 20, 128, 64, 4
x, router = draw(tokens, hidden), draw(experts, hidden)
gate_up, down = draw(experts, 2 * intermediate, hidden), draw(experts, hidden, intermediate)
out = fused_moe(x, router, gate_up, down, 2)
assert gpu.figures.waves > 0
print(out.view(torch.int16).tolist())
"""


def output(arch: str, order: str) -> str:
    # The interpreter, which the other tests run under, is chosen when triton is imported.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, arch, order],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("arch", ["gfx942", "gfx1201"])
def test_the_order_of_waves_changes_no_bit(arch: str) -> None:
    assert output(arch, "together") == output(arch, "1")
