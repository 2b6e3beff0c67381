"""Which AMD instructions our kernels' binaries hold, and how the emulator's were tested.

    python ci/instruction_coverage.py write
    python ci/instruction_coverage.py check

`write` compiles moe_dispatch for each emulated GPU with every tile configuration, runs its pipeline
in the emulator, and puts the table into docs/emulation.md between its markers. `check` fails if the
table there is another one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from moeproof.amd.atomics import operation_of
from moeproof.amd.code_object import load_code_object
from moeproof.amd.decoding import ARCHITECTURES, disassemble
from moeproof.amd.driver import EmulatedGpu
from moeproof.amd.lane_steps import LANE_INSTRUCTIONS
from moeproof.amd.matrix import matrix_instruction
from moeproof.amd.transfers import transfer_of
from moeproof.amd.translate import has_effect
from moeproof.architectures import ARCHITECTURES as GPUS
from moeproof.triton_driver import AbsentGpuDriver, install

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "emulation.md"
TESTS = ROOT / "conformance" / "tests" / "amd"
BEGIN, END = "<!-- instruction coverage: begin -->", "<!-- instruction coverage: end -->"

# What ends a program or a basic block; every emulated kernel goes through these.
_FLOW = re.compile(r"s_(c?branch|barrier|endpgm|setpc|sendmsg|code_end)\w*")
# Tested in test_packed_instructions.py, by hand rather than by table.
_BY_HAND = re.compile(
    r"v_pk_(fma|mul|add)_f32|v_pk_mul_f16|v_pk_add_u16|v_(mad|fma)_mix(_f32|(lo|hi)_f16)"
    r"|s_(and|or)_saveexec_b\d\d|s_(addk|movk|cmpk)_\w+|s_fma[am]k_f32"
    r"|v_cmpx_(lt_i32|eq_u32)|v_bitop3_b\d\d|v_accvgpr_(read|write)"
)
# Tested through what the compiler makes of a division (test_triton_kernels.py).
_BY_PROGRAM = re.compile(r"v_div_(scale|fmas|fixup)_f32")


def module_at(path: Path) -> ModuleType:
    """A file that is no part of a package, as a module."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


def names_in_binaries(arch: str) -> tuple[int, Counter[str]]:
    """Number of kernels, and how often each instruction occurs in them."""
    binaries: list[bytes] = []

    def load(name: str, binary: bytes) -> None:
        binaries.append(binary)

    def launcher(source: Any, metadata: Any) -> Any:
        return lambda *_: None

    install(AbsentGpuDriver(GPUS[arch], load=load, launcher=launcher))
    module_at(ROOT / "kernels" / "tests" / "cross_compile.py").call_everything(arch)
    found: Counter[str] = Counter()
    for binary in binaries:
        for instruction in disassemble(load_code_object(binary)):
            found.update(alone(instruction.name))
    return len(binaries), found


def alone(name: str) -> list[str]:
    """A dual-issue instruction's two operations as the instructions that they are by themselves."""
    return [part.replace("v_dual_", "v_") for part in name.split("::")]


def names_executed(arch: str) -> set[str]:
    """Instructions that the pipeline executes, of one token and of several tiles, in each dtype."""
    from moe_dispatch import fused_moe

    gpu = EmulatedGpu(arch)
    gpu.install()
    hidden, intermediate, experts = 128, 64, 8
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) / shape[-1] ** 0.5).to(dtype)

    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for tokens in (1, 40, 300):
            fused_moe(
                draw(tokens, hidden, dtype=dtype),
                draw(experts, hidden, dtype=dtype),
                draw(experts, 2 * intermediate, hidden, dtype=dtype),
                draw(experts, hidden, intermediate, dtype=dtype),
                2,
            )
    return {name for both in gpu.figures.opcodes for name in alone(both)}


def tested_by(name: str, arch: str, vectors: set[str]) -> str:
    """Which kind of test the instruction has."""
    if _FLOW.fullmatch(name) or not has_effect(name):
        return "flow"
    if name in vectors or _BY_HAND.fullmatch(name):
        return "vector"
    if transfer_of(name) or operation_of(name) or name.startswith("s_load_"):
        return "memory"
    if name.startswith(("v_mfma", "v_wmma")) and matrix_instruction(name, arch):
        return "matrix"
    if name in LANE_INSTRUCTIONS:
        return "lanes"
    return "program" if _BY_PROGRAM.fullmatch(name) else "none"


def row_of(arch: str) -> dict[str, Any]:
    """One architecture's figures."""
    kernels, found = _in_own_process("binaries", arch)
    executed = _in_own_process("executed", arch)
    sys.path.insert(0, str(TESTS))
    vectors = set(module_at(TESTS / "opcode_vectors.py").VECTORS)
    vectors |= set(module_at(TESTS / "test_instructions.py").REFERENCES)
    kinds = {name: tested_by(name, arch, vectors) for name in found}
    return {
        "arch": arch,
        "kernels": kernels,
        "instructions": sum(found.values()),
        "opcodes": len(found),
        "executed": len(set(executed) & set(found)),
        "kinds": Counter(kinds.values()),
        "untested": sorted(name for name, kind in kinds.items() if kind == "none"),
    }


def _in_own_process(task: str, arch: str) -> Any:
    """What a task prints: Triton of one process keeps the target and launcher it had first."""
    done = subprocess.run(
        [sys.executable, __file__, task, arch], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| GPU | kernels compiled | instructions | different ones | executed here | own vectors "
        "| memory, matrix, lane tests | no effect, or flow | through programs | untested |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        kinds = Counter(row["kinds"])
        units = kinds["memory"] + kinds["matrix"] + kinds["lanes"]
        untested = ", ".join(f"`{name}`" for name in row["untested"]) or "none"
        cells = [
            row["arch"],
            row["kernels"],
            f"{row['instructions']:,}",
            row["opcodes"],
            row["executed"],
            kinds["vector"],
            units,
            kinds["flow"],
            kinds["program"],
            untested,
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("write", "check", "binaries", "executed"))
    parser.add_argument("arch", nargs="?", choices=ARCHITECTURES)
    options = parser.parse_args()
    if options.task == "binaries":
        print(json.dumps(names_in_binaries(options.arch)))
        return
    if options.task == "executed":
        print(json.dumps(sorted(names_executed(options.arch))))
        return
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    fresh = f"{before}{BEGIN}\n{table([row_of(arch) for arch in ARCHITECTURES])}\n{END}{after}"
    if options.task == "write":
        PAGE.write_text(fresh)
    elif fresh != page:
        sys.exit(f"{PAGE}: the table is out of date; python ci/instruction_coverage.py write")


if __name__ == "__main__":
    main()
