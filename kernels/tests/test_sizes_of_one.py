"""Kernels compile where a size or stride is 1: Triton then makes it a constant, not a tensor.

The interpreter does not specialise arguments, so only a compilation shows it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_COMPILE = """
    import importlib
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module, name = "{kernel}".split(":")
    kernel = getattr(importlib.import_module(module), name)
    constants = dict(
        TOP_K=2, NUM_EXPERTS=8, BLOCK_M=32, BLOCK_N=32, BLOCK_K=32, BLOCK_T=1, BLOCK_H=16,
        GROUP_M=1, UNROLL=8, EVEN_N=False, EVEN_K=False, WEIGHT_EVICTION="", ALLOW_TF32=False,
    )
    constants.update(HIDDEN_SIZE=1, INTERMEDIATE_SIZE=1, BY_DESCRIPTOR=False)
    constants.update(HEIGHTS=(16, 32, 48), STAGES=(2, 2, 2))
    constants.update(TILE=(32, 32, 1, (2, 2, 2), False, False))
    constants.update(NARROW_TILE=(16, 32, 1, (2, 2, 2), False, False))
    constants.update(TALL_BLOCK_K=32, SLICED_TILE=(16, 64, 4, 2, False))
    pointers = dict(schedule_ptr="*i32", ids_ptr="*i32", weights_ptr="*fp32")
    pointers.update(dict.fromkeys(("h_rows", "w", "narrow_w", "tall_w"), "*bf16"))
    signature, values = {{}}, {{}}
    for argument in kernel.arg_names:
        if argument.endswith("_ptr") or argument in pointers:
            signature[argument] = pointers.get(argument, "*bf16")
        elif argument.endswith("_size") or argument.startswith("stride"):
            signature[argument], values[argument] = "constexpr", 1
        elif argument.isupper():
            signature[argument], values[argument] = "constexpr", constants[argument]
        else:
            signature[argument] = "i32"
    compile_for(ASTSource(kernel, signature, values), GPUTarget("cuda", 90, 32))
"""


@pytest.mark.parametrize(
    "kernel",
    [
        "moe_dispatch.gate_up:gate_up_kernel",
        "moe_dispatch.down:down_kernel",
        "moe_dispatch.combine:combine_kernel",
        "moe_dispatch.gemv:gemv_gate_up_kernel",
        "moe_dispatch.gemv:gemv_down_kernel",
    ],
)
def test_a_size_of_one_compiles(kernel: str, tmp_path: Path) -> None:
    """In a process of its own, since this one interprets."""
    program = "from triton import compile as compile_for\n" + textwrap.dedent(
        _COMPILE.format(kernel=kernel)
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path), "TRITON_INTERPRET": "0"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
