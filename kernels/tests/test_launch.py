"""Launching again: the compiled kernel is found once, and never used for what it was not made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import torch, triton
from triton import knobs
from cross_compile import CompileOnlyDriver, target_of
import triton.language as tl
from moe_dispatch.launch import Launch, takes_descriptor

launched = []

class Recorder(CompileOnlyDriver):
    def launcher_cls(self, source, metadata):
        return lambda *arguments: launched.append((metadata.target.arch, arguments))

@triton.jit
def copy_kernel(x_ptr, y_ptr, size, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < size), mask=at < size)

def compiled():
    return sum(len(cache[0]) for cache in copy_kernel.device_caches.values())

triton.runtime.driver.set_active(Recorder(target_of("sm_90")))
launch = Launch(copy_kernel, 3, (16,), {"BLOCK": 16}, num_warps=2)
x, y = torch.zeros(64), torch.zeros(64)
for _ in range(3):
    launch(x, y)
assert compiled() == 1
assert [arch for arch, _ in launched] == [90] * 3
for _, arguments in launched:
    assert arguments[:3] == (3, 1, 1)
    assert arguments[-4] is x and arguments[-3] is y and arguments[-2:] == (16, 16)

# A tensor that starts elsewhere needs other code, and leaves the first as it was.
launch(x[1:], y)
assert compiled() == 2
launch(x, y)
assert compiled() == 2 and len(launched) == 5

# Another driver means another device: what was compiled for the first is not launched there.
class Elsewhere(Recorder):
    def get_current_device(self):
        return 1

triton.runtime.driver.set_active(Elsewhere(target_of("sm_80")))
launch(x, y)
assert launched[-1][0] == 80

# Profilers hear of every launch.
heard = []
knobs.runtime.launch_enter_hook.add(lambda metadata: heard.append(metadata))
launch(x, y)
assert launched[-1][1][6] is not None

assert takes_descriptor(torch.zeros(3, 5, 8))
assert takes_descriptor(torch.zeros(3, 5, 16)[:, :, :8])
assert not takes_descriptor(torch.zeros(3, 5, 7))          # rows not 16-byte aligned
assert not takes_descriptor(torch.zeros(3, 8, 5).transpose(1, 2))
assert not takes_descriptor(torch.zeros(3, 10, 8)[:, ::2][:, :3])  # rows not evenly spaced
assert not takes_descriptor(torch.zeros(60)[1:57].view(1, 7, 8))   # starts elsewhere
assert not takes_descriptor(torch.zeros(1, 1, 8).expand(1, 5, 8))
"""


def test_launches_of_compiled_kernels(tmp_path: Path) -> None:
    """In a process of its own, since this one interprets."""
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM, encoding="utf-8")
    paths = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": ":".join(paths), "TRITON_INTERPRET": "0"}
    result = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
