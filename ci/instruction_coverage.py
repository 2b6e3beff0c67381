"""Which instructions the AMD binaries of our kernels hold, and how the emulator's were tested.

    moeproof targets --report reports/targets
    python ci/instruction_coverage.py check reports/targets
    python ci/instruction_coverage.py write reports/targets

`check` prints a table of the report's binaries, and fails if one of them holds an instruction that
no test covers. `write` also executes moe_dispatch's pipeline on each emulated GPU, to count what
that reaches, and puts the table into docs/emulation.md between its markers.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "emulation.md"
TESTS = ROOT / "conformance" / "tests" / "amd"
BEGIN, END = "<!-- instruction coverage: begin -->", "<!-- instruction coverage: end -->"

# What ends a program or a basic block; every emulated kernel goes through these.
_FLOW = re.compile(r"s_(c?branch|barrier|endpgm|setpc|sendmsg|code_end)\w*")
# Tested in test_packed_instructions.py, by hand rather than by table.
_BY_HAND = re.compile(
    r"v_pk_(fma|mul|add)_f32|v_pk_mul_f16|v_pk_add_u16|v_(mad|fma)_mix(_f32|(lo|hi)_f16)"
    r"|v_pk_mov_b32|s_(and|or|andn2|and_not1)_saveexec_b\d\d|s_(addk|movk|mulk|cmpk)_\w+"
    r"|s_bitset[01]_b32|s_fma[am]k_f32|v_cmpx_(lt_i32|gt_i32|eq_u32)|v_bitop3_b\d\d"
    r"|v_accvgpr_(read|write)"
)
# Tested through what the compiler makes of a division (test_triton_kernels.py).
_BY_PROGRAM = re.compile(r"v_div_(scale|fmas|fixup)_f32")


@dataclass(frozen=True)
class Row:
    """One GPU's figures.

    Attributes:
        arch: "gfx942".
        kernels, instructions: in the report. opcodes: different instructions.
        kinds: kind of test -> different instructions that have such a test.
        untested: those without any.
        executed: those that the pipeline reached; None where it was not run.
    """

    arch: str
    kernels: int
    instructions: int
    opcodes: int
    kinds: Counter[str]
    untested: tuple[str, ...]
    executed: int | None = None


def rows_of(report: Path, *, execute: bool) -> list[Row]:
    """A row for each AMD GPU of a folder that `moeproof targets --report` wrote."""
    lines = map(json.loads, (report / "targets.jsonl").read_text().splitlines())
    found: dict[str, list[dict[str, int]]] = {}
    for line in lines:
        arch = line["configuration"]["target"] if line["kind"] == "kernel" else ""
        if arch.startswith("gfx"):
            if line["opcodes"] is None:
                sys.exit(f"{report}: its binaries were not decoded, which takes Python 3.11")
            found.setdefault(arch, []).append(line["opcodes"])
    return [_row(arch, binaries, execute=execute) for arch, binaries in found.items()]


def _row(arch: str, binaries: Sequence[dict[str, int]], *, execute: bool) -> Row:
    counts: Counter[str] = Counter()
    for binary in binaries:
        for name, count in binary.items():
            counts.update(dict.fromkeys(alone(name), count))
    tests = Tests(arch)
    kinds = {name: tests.kind(name) for name in counts}
    return Row(
        arch=arch,
        kernels=len(binaries),
        instructions=counts.total(),
        opcodes=len(counts),
        kinds=Counter(kinds.values()),
        untested=tuple(sorted(name for name, kind in kinds.items() if kind == "none")),
        executed=len(_executed_apart(arch) & set(counts)) if execute else None,
    )


def alone(name: str) -> list[str]:
    """A dual-issue instruction's two operations as the instructions that they are by themselves."""
    return [part.replace("v_dual_", "v_") for part in name.split("::")]


class Tests:
    """What the emulator's tests cover on one GPU."""

    def __init__(self, arch: str) -> None:
        if str(TESTS) not in sys.path:
            sys.path.insert(0, str(TESTS))
        self._arch = arch
        self._vectors = {
            *import_module("opcode_vectors").VECTORS,
            *import_module("test_instructions").REFERENCES,
        }
        cases = import_module("test_matrix").CASES
        self._products = [_product(name, gpu) for gpu, name, *_ in cases]

    def kind(self, name: str) -> str:
        """Which kind of test an instruction has: "none" if it has none."""
        from moeproof.amd.atomics import operation_of
        from moeproof.amd.lane_steps import LANE_INSTRUCTIONS
        from moeproof.amd.transfers import transfer_of
        from moeproof.amd.translate import has_effect

        if _FLOW.fullmatch(name) or not has_effect(name):
            return "flow"
        if name in self._vectors or _BY_HAND.fullmatch(name):
            return "vector"
        if transfer_of(name) or operation_of(name) or name.startswith("s_load_"):
            return "memory"
        if name.startswith(("v_mfma", "v_wmma")) and _product(name, self._arch) in self._products:
            return "matrix"
        if name in LANE_INSTRUCTIONS:
            return "lanes"
        return "program" if _BY_PROGRAM.fullmatch(name) else "none"


def _product(name: str, arch: str) -> Any:
    """What a matrix instruction does, whatever it is called on that GPU."""
    from moeproof.amd.matrix import matrix_instruction

    found = matrix_instruction(name, arch)
    return None if found is None else replace(found, mnemonic="")


def _executed_apart(arch: str) -> set[str]:
    """In a process of its own: Triton of one process keeps the target that it had first."""
    done = subprocess.run(
        [sys.executable, __file__, "execute", arch], stdout=subprocess.PIPE, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def names_executed(arch: str) -> set[str]:
    """Instructions that the pipeline executes, of one token and of several tiles, in each dtype."""
    import torch

    from moe_dispatch import fused_moe
    from moeproof.amd.driver import EmulatedGpu

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


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    headings = [
        *("GPU", "kernels compiled", "instructions", "different ones", "executed here"),
        *("own vectors", "memory, matrix, lane tests", "no effect, or flow"),
        *("through programs", "untested"),
    ]
    cells = [
        [
            *(row.arch, row.kernels, f"{row.instructions:,}", row.opcodes, row.executed),
            *(row.kinds["vector"], sum(row.kinds[k] for k in ("memory", "matrix", "lanes"))),
            *(row.kinds["flow"], row.kinds["program"]),
            ", ".join(f"`{name}`" for name in row.untested) or "none",
        ]
        for row in rows
    ]
    if any(row.executed is None for row in rows):
        for line in (headings, *cells):
            del line[4]
    lines = [headings, ["---"] * len(headings), *cells]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("check", "write", "execute"))
    parser.add_argument("subject", help="the report's folder; for execute, the GPU")
    options = parser.parse_args()
    if options.task == "execute":
        print(json.dumps(sorted(names_executed(options.subject))))
        return
    writes = options.task == "write"
    rows = rows_of(Path(options.subject), execute=writes)
    if not rows:
        print(f"{options.subject}: no AMD GPU was compiled for, so no instruction is to be tested")
        return
    print(table(rows))
    if writes:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}")
    untested = sorted({name for row in rows for name in row.untested})
    if untested:
        sys.exit(f"no test of the emulator covers {', '.join(untested)}: see {TESTS}")


if __name__ == "__main__":
    main()
