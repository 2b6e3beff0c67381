"""What the compiler makes of the kernels for GPUs that need not be here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Bytes of shared memory (LDS) that one program may use: CUDA C++ Programming Guide, table of
# technical specifications per compute capability; AMD's ISA manuals, "LDS".
SHARED_MEMORY = {
    "sm_80": 163 << 10,
    "sm_90": 227 << 10,
    "gfx90a": 64 << 10,
    "gfx942": 64 << 10,
    "gfx950": 160 << 10,
    "gfx1100": 64 << 10,
    "gfx1201": 64 << 10,
}
GROUPED = ("gate_up_kernel", "down_kernel")
LARGE_BATCH = ("joint_gate_up_kernel", "persistent_down_kernel")
GEMMS = (*GROUPED, *LARGE_BATCH, "router_logits_kernel")
GEMVS = ("gemv_gate_up_kernel", "gemv_down_kernel")


@pytest.mark.parametrize("arch", SHARED_MEMORY)
def test_every_kernel_compiles_well(arch: str) -> None:
    """In a process of its own, since this one interprets."""
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("cross_compile.py")), arch],
        env=os.environ | {"TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    kernels: list[dict[str, Any]] = [json.loads(line) for line in result.stdout.splitlines()]
    assert {kernel["kernel"] for kernel in kernels} >= {
        "schedule_kernel",
        "routing_kernel",
        "router_logits_kernel",
        *GROUPED,
        *GEMVS,
        *(LARGE_BATCH if arch == "sm_90" else ()),
    }
    for kernel in kernels:
        assert kernel["shared"] <= SHARED_MEMORY[arch], kernel
        # Bytes a thread: more than 1,024 experts take the schedule more registers than RDNA3 has,
        # and Triton 3.6 spills two at a tile of gate_up.
        assert kernel["spilled"] <= (64 if kernel["kernel"] == "schedule_kernel" else 8), kernel
        if kernel["kernel"] in (*GEMMS, *GEMVS) and kernel["narrow"]:
            assert kernel["wide_loads"], kernel
        if kernel["kernel"] in GEMMS and kernel["narrow"]:
            assert kernel["matrix"], kernel
        if arch == "sm_90" and kernel["kernel"] in (*GROUPED, *LARGE_BATCH) and kernel["narrow"]:
            # wgmma at every height: it is why all tiles but sliced ones give the same bits.
            assert kernel["matrix"] == ["HGMMA", *["HMMA"] * bool(kernel["sliced"])], kernel
            # The products of a K step are in flight together. Where a product has to wait for the
            # one before it (ptxas C7510 to C7519, "serialized"), each is a group of its own.
            assert kernel["wgmma_groups"] <= kernel["wgmma_products"] / 2, kernel
        if kernel["sliced"] is not None:
            assert kernel["sliced"] == kernel["slice_a_warp"], kernel
        if kernel["kernel"] in LARGE_BATCH:
            assert kernel["narrow"], kernel
            assert "64x256x16" in kernel["wgmma"], kernel
            loads = ["2D", "3D"] if "joint" in kernel["kernel"] else ["2D"]
            assert kernel["tma_loads"] == loads, kernel
    # With few tiles the small batches' kernels split K between their warps.
    assert {kernel["kernel"] for kernel in kernels if kernel["sliced"]} == {*GROUPED}
    instructions = {name for kernel in kernels for name in kernel["matrix"]}
    if arch == "sm_90":
        assert instructions == {"HMMA", "HGMMA"}
