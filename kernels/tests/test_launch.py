"""Launching again: the compiled kernel is found once and given each call's own tensors."""

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
from moe_dispatch.tensor_spec import TensorSpec

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

# Other tensors of the same specs are the arguments of the same code.
other = torch.ones(64)
launch(other, y)
assert launched[-1][1][-4] is other

# Profilers hear of every launch.
heard = []
listener = heard.append
knobs.runtime.launch_enter_hook.add(listener)
launch(x, y)
assert compiled() == 1 and launched[-1][1][6] is not None
knobs.runtime.launch_enter_hook.remove(listener)

# A descriptor is that of the tensor at hand.
@triton.jit
def block_kernel(rows, y_ptr, BLOCK: tl.constexpr):
    tl.store(y_ptr + tl.arange(0, BLOCK), tl.sum(rows.load([0, 0]), axis=0))

matrices = torch.zeros(2, 8, 32)[:, :, :16]
by_descriptor = Launch(
    block_kernel, 1, (), {"BLOCK": 16}, blocks={0: (TensorSpec.of(matrices), [4, 16])}
)
for tensor in (matrices, matrices.clone(memory_format=torch.preserve_format), matrices):
    by_descriptor(tensor, y)
    descriptor = launched[-1][1][9]
    assert descriptor.base is tensor and descriptor.padding == "zero"
    assert (descriptor.shape, descriptor.strides) == ([16, 16], [32, 1])
    assert descriptor.block_shape == [4, 16]

# With blocks of three dimensions, so has the descriptor; its tensor in another shape.
@triton.jit
def stack_kernel(rows, y_ptr, BLOCK: tl.constexpr):
    tl.store(y_ptr + tl.arange(0, BLOCK), tl.sum(tl.sum(rows.load([0, 0, 0]), axis=0), axis=0))

halves = TensorSpec.of(matrices)._replace(shape=(4, 4, 16), strides=(128, 32, 1))
by_stacks = Launch(stack_kernel, 1, (), {"BLOCK": 16}, blocks={0: (halves, [2, 4, 16])})
for _ in range(2):
    by_stacks(matrices, y)
    descriptor = launched[-1][1][9]
    assert descriptor.base is matrices
    assert (descriptor.shape, descriptor.strides) == ([4, 4, 16], [128, 32, 1])
    assert descriptor.block_shape == [2, 4, 16]

def takes(tensor):
    return takes_descriptor(TensorSpec.of(tensor))

assert takes(torch.zeros(3, 5, 8))
assert takes(torch.zeros(3, 5, 16)[:, :, :8])
assert not takes(torch.zeros(3, 5, 7))          # rows not 16-byte aligned
assert not takes(torch.zeros(3, 8, 5).transpose(1, 2))
assert not takes(torch.zeros(3, 10, 8)[:, ::2][:, :3])  # rows not evenly spaced
assert not takes(torch.zeros(60)[1:57].view(1, 7, 8))   # starts elsewhere
assert not takes(torch.zeros(1, 1, 8).expand(1, 5, 8))
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
