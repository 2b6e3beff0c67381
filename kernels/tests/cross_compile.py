"""Compiles every kernel for one GPU, without that GPU: `python cross_compile.py gfx942`.

A driver takes the place of Triton's own. It answers for the target and launches nothing, so that
ordinary calls with CPU tensors choose the target's tiles and compile its kernels. One JSON line a
compiled kernel goes to the standard output.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

from moe_dispatch import (
    combine,
    down,
    fused_moe,
    gate_up,
    gemv,
    joint_gate_up,
    persistent_down,
    route,
    router_logits,
    routing,
    schedule,
)
from moe_dispatch.tensor_spec import TensorSpec
from moe_dispatch.tile_config import configs

KERNELS = (
    combine.combine_kernel,
    down.down_kernel,
    gate_up.gate_up_kernel,
    gemv.gemv_down_kernel,
    gemv.gemv_gate_up_kernel,
    joint_gate_up.joint_gate_up_kernel,
    persistent_down.persistent_down_kernel,
    router_logits.router_logits_kernel,
    routing.routing_kernel,
    schedule.count_kernel,
    schedule.schedule_kernel,
)


# The layout of matrix products of three dimensions, whose first is the slice.
_SLICE_A_WARP = re.compile(
    r"_\w*ma<.*(?:warpsPerCTA = \[4, 1, 1\]|warp = \[\[1, 0, 0\], \[2, 0, 0\]\])"
)


class CompileOnlyDriver:
    """As much of a Triton driver as a launch touches."""

    class utils:  # noqa: N801
        @staticmethod
        def load_binary(*_: Any) -> tuple[int, ...]:
            return 0, 0, 0, 0, 1024

        @staticmethod
        def get_device_properties(_: int) -> dict[str, int]:
            # More than any kernel asks for: the test judges.
            return {"max_shared_mem": 1 << 30, "multiprocessor_count": 1, "warpSize": 32}

        @staticmethod
        def unload_module(_: Any) -> None: ...

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        return lambda *_: None

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def target_of(arch: str) -> GPUTarget:
    if arch.startswith("sm_"):
        return GPUTarget("cuda", int(arch[3:]), 32)
    return GPUTarget("hip", arch, 32 if arch.startswith(("gfx11", "gfx12")) else 64)


def call_everything(arch: str) -> None:
    """Each entry of the table, and the other variants of the kernels once."""
    num_experts, top_k = 8, 2

    def call(
        tokens: int, dtype: torch.dtype, router_dtype: torch.dtype, *, allow_tf32: bool = False
    ) -> None:
        hidden, intermediate = 1024, 512
        fused_moe(
            torch.zeros(tokens, hidden, dtype=dtype),
            torch.zeros(num_experts, hidden, dtype=router_dtype),
            torch.zeros(num_experts, 2 * intermediate, hidden, dtype=dtype),
            torch.zeros(num_experts, hidden, intermediate, dtype=dtype),
            top_k,
            allow_tf32=allow_tf32,
        )

    for dtype in (torch.bfloat16, torch.float32):
        # With many rows an expert, those of h are short or, for 64, long.
        for rows in (*configs(arch=arch, element_size=dtype.itemsize), 64):
            call(min(rows, 1100) * num_experts // top_k, dtype, dtype)
    for dtype in (torch.bfloat16, torch.float32):
        call(1, dtype, dtype)
    call(3, torch.float16, torch.float32)
    call(64 * num_experts // top_k, torch.float16, torch.float16)
    call(3, torch.float32, torch.float32, allow_tf32=True)
    route(torch.zeros(3, 128), 8, renormalize=False)
    route(
        torch.zeros(3, 256),
        8,
        scoring="sigmoid",
        correction_bias=torch.zeros(256),
        num_groups=8,
        topk_groups=4,
    )
    for num_tokens in (3, 2000):
        ids = torch.zeros(num_tokens, 8, dtype=torch.int64)
        build_schedule = schedule.plan_schedule(
            TensorSpec.of(ids),
            1025,
            max_tiles=schedule.max_tiles(num_slots=ids.numel(), num_experts=1025, block_m=64),
            block_m=64,
            tail=32,
        )
        build_schedule(ids)


def facts(kernel: Any, target: GPUTarget) -> dict[str, Any]:
    """What the machine code uses: bytes of shared memory, spills, kinds of instructions.

    For NVIDIA also wgmma's shapes, and how many dimensions the blocks have that TMA loads. Of
    kernels that may split K, whether they do, and whether each warp has a slice of its own.
    """
    operands = [str(kernel.src.signature[name]) for name in kernel.src.fn.arg_names[:2]]
    found: dict[str, Any] = {
        "kernel": kernel.src.fn.__name__,
        "narrow": not any("fp32" in operand for operand in operands),
        "shared": kernel.metadata.shared,
        "sliced": None,
    }
    if "SLICED_TILE" in kernel.src.fn.arg_names:
        place = kernel.src.fn.arg_names.index("SLICED_TILE")
        found["sliced"] = kernel.src.constants.get((place,)) is not None
        found["slice_a_warp"] = bool(_SLICE_A_WARP.search(kernel.asm["ttgir"]))
    if target.backend == "hip":
        code = kernel.asm["amdgcn"]
        spills = re.findall(r"\.(?:vgpr_spill_count|private_segment_fixed_size):\s+(\d+)", code)
        found["spilled"] = sum(map(int, spills))
        found["matrix"] = sorted(set(re.findall(r"v_(?:mfma|wmma)_\w+", code)))
        found["wide_loads"] = len(re.findall(r"(?:global|buffer)_load_(?:dwordx4|b128)", code))
        return found
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()

        def tool(path: str, *options: str) -> str:
            return subprocess.run(
                [path, *options, file.name], capture_output=True, text=True, check=True
            ).stdout

        usage = tool(triton.knobs.nvidia.cuobjdump.path, "-res-usage")
        code = tool(triton.knobs.nvidia.nvdisasm.path, "-c")
    found["spilled"] = sum(map(int, re.findall(r"(?:STACK|LOCAL):(\d+)", usage)))
    found["matrix"] = sorted(set(re.findall(r"\b(?:HMMA|HGMMA|UTCHMMA)\b", code)))
    found["wgmma"] = sorted(set(re.findall(r"\bHGMMA\.(\d+x\d+x\d+)", code)))
    found["wgmma_groups"] = len(re.findall(r"\bWARPGROUP\.ARRIVE\b", code))
    found["wgmma_products"] = len(re.findall(r"\bHGMMA\.", code))
    found["tma_loads"] = sorted(set(re.findall(r"\bUTMALDG\.(\dD)", code)))
    found["wide_loads"] = len(re.findall(r"\b(?:LDG(?:STS)?\S*\.128|UTMALDG)", code))
    return found


def main(arch: str) -> None:
    target = target_of(arch)
    triton.runtime.driver.set_active(CompileOnlyDriver(target))
    call_everything(arch)
    for function in KERNELS:
        for cache, *_ in function.device_caches.values():
            for kernel in cache.values():
                print(json.dumps(facts(kernel, target)))


if __name__ == "__main__":
    main(sys.argv[1])
