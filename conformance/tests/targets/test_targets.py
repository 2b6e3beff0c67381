"""Planted kernels are compiled for GPUs that are not here, and what is bad about them is found."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moeproof.cli import main
from moeproof.implementation import ImplementationError
from moeproof.targets import compilation
from moeproof.targets.compilation import compile_targets
from moeproof.targets.facts import KernelFacts
from moeproof.targets.isolated_compiler import CompiledTarget
from moeproof.targets.rules import violations

_SUBJECTS = Path(__file__).parents[1] / "subjects" / "planted_kernels.py"


def _compile(
    name: str,
    *targets: str,
    timeout: float = 300.0,
    tell: Callable[[str], object] = print,
) -> dict[str, CompiledTarget]:
    compiled = compile_targets(
        name if ":" in name else f"{_SUBJECTS}:{name}",
        targets=targets,
        dtypes=("bf16",),
        workers=2,
        timeout_seconds=timeout,
        tell=tell,
    )
    return {result.target: result for result in compiled}


def _only_kernel(compiled: CompiledTarget) -> KernelFacts:
    (facts,) = compiled.kernels
    return facts


def test_good_code_has_no_violation() -> None:
    compiled = _compile("good", "sm_90", "gfx942")
    paths = {}
    for target, result in compiled.items():
        facts = _only_kernel(result)
        assert not result.failed_calls
        assert violations(facts) == ()
        assert facts.main_loop is not None
        assert facts.main_loop.work == 1.0
        decoded = target == "gfx942" and sys.version_info >= (3, 11)
        assert facts.missing_waits == (() if decoded else None)
        paths[target] = facts.matrix_paths
    assert paths == {"sm_90": ("wgmma",), "gfx942": ("mfma",)}


def test_spills_in_the_main_loop_are_found() -> None:
    for result in _compile("spilling", "sm_80", "gfx1100").values():
        facts = _only_kernel(result)
        assert facts.resources.scratch_bytes > 0
        (wrong,) = violations(facts)
        assert "main loop spill" in wrong


def test_shared_memory_over_the_limit_is_found() -> None:
    for result in _compile("too_much_shared", "sm_90", "gfx950").values():
        assert any("bytes of shared memory" in wrong for wrong in violations(_only_kernel(result)))
        assert "OutOfResources" in result.failed_calls[0].message


def test_dot_without_matrix_instructions_is_found() -> None:
    (result,) = _compile("without_matrix", "gfx942").values()
    (wrong,) = violations(_only_kernel(result))
    assert "no matrix instruction for a dot of 16x64x8 in bf16" in wrong


def test_a_layer_s_own_kernels_are_compiled() -> None:
    (result,) = _compile("layer", "gfx942").values()
    assert _only_kernel(result).configuration.kernel == "dot_kernel"
    assert not result.failed_calls


def test_failed_call_is_told_once() -> None:
    (result,) = _compile("raising", "sm_80").values()
    (failed,) = result.failed_calls
    assert failed.message == "RuntimeError: no tiles for this GPU"


def test_call_that_takes_too_long_is_killed_and_the_others_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compilation, "_SECONDS_BETWEEN_LINES", 0.5)
    lines: list[str] = []
    (result,) = _compile("sleeping", "sm_80", timeout=3.0, tell=lines.append).values()
    slept, raised = result.failed_calls
    assert slept.problem == "T2-H1008-I496-E8-K2-bf16"
    # Nine models' layers with one token, and this one before them.
    assert re.fullmatch(
        r"call 11 of \d+ gave no answer within 3 s \(--timeout\) "
        r"at .*planted_kernels\.py:\d+ in sleeping",
        slept.message,
    )
    assert (raised.problem, raised.message) == (
        "T4-H1008-I496-E8-K2-bf16",
        "RuntimeError: four tokens",
    )
    under_way = r"sm_80: call 11 of \d+, T2-H1008-I496-E8-K2-bf16, for \d s"
    assert any(re.fullmatch(under_way, line) for line in lines)


def test_call_that_ends_the_process_costs_no_other() -> None:
    (result,) = _compile("crashing", "sm_80").values()
    assert _only_kernel(result).configuration.problem == "T1-H1008-I496-E8-K2-bf16"
    (failed,) = result.failed_calls
    assert failed.problem == "T2-H1008-I496-E8-K2-bf16"
    assert re.match(r"in call 11 of \d+, the process was killed by SIGKILL", failed.message)


def test_implementation_that_loads_only_once_is_told(tmp_path: Path) -> None:
    subject = tmp_path / "once.py"
    subject.write_text(
        "import os, pathlib\n"
        "pathlib.Path(__file__).with_suffix('.loaded').touch(exist_ok=False)\n"
        "def fused_experts(*tensors):\n"
        "    os._exit(7)\n"
    )
    (result,) = _compile(f"{subject}:fused_experts", "sm_80").values()
    died, not_made = result.failed_calls
    assert re.match(r"in call 1 of \d+, the process exited with code 7", died.message)
    assert re.match(r"calls 2 to \d+ were not made: .*FileExistsError", not_made.message)


def test_unknown_implementation() -> None:
    with pytest.raises(ImplementationError, match="has no attribute 'absent'"):
        _compile("absent", "sm_80")


def test_command_writes_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # however narrow the terminal, the table is whole
    arguments = ["targets", "--target", "gfx942", "--dtype", "bf16", "--report", str(tmp_path)]
    assert main([*arguments, "--implementation", f"{_SUBJECTS}:good"]) == 0
    printed = capsys.readouterr().out
    assert "1 kernels for 1 targets" in printed
    header, kernel, footer = map(json.loads, (tmp_path / "targets.jsonl").read_text().splitlines())
    assert header["targets"] == ["gfx942"]
    assert kernel["configuration"]["kernel"] == "dot_kernel"
    main_loop, registers = kernel["main_loop"], kernel["resources"]["registers"]
    assert main_loop["global_loads"] == {"registers 16": 4}
    (row,) = (line.split() for line in printed.splitlines() if line.startswith(" gfx942 "))
    counts = [str(registers[kind]) for kind in ("vector", "accumulation", "scalar")]
    assert row[:7] == ["gfx942", "dot_kernel", "bf16", "1", *counts]
    addresses, ahead = main_loop["wide_addresses"], main_loop["matrix_ahead"]
    loaded = f"mfma registers 16 {addresses} 1 {ahead} {kernel['occupancy']['warps']} of 32"
    assert " ".join(row[7:]) == f"16 of 64 KiB {loaded}"  # neither scratch nor spills
    if sys.version_info >= (3, 11):
        assert kernel["matrix"].items() <= kernel["opcodes"].items()
        assert sum(kernel["opcodes"].values()) >= kernel["instructions"]
    else:  # there is no decoder
        assert kernel["opcodes"] is None
    assert footer["broken"] == 0
    page = (tmp_path / "targets.html").read_text()
    assert "v_mfma_f32_32x32x8_bf16" in page
    assert f"{counts[0]}<br><small>accumulation {counts[1]}</small>" in page


def test_command_names_the_limit_that_a_call_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["targets", "--target", "sm_80", "--dtype", "bf16", "--timeout", "2.5"]
    subject = ["--implementation", f"{_SUBJECTS}:sleeping", "--report", str(tmp_path)]
    assert main([*arguments, *subject]) == 1
    printed = capsys.readouterr().out
    assert re.search(
        r"^ERROR sm_80 T2-H1008-I496-E8-K2-bf16: call 11 of \d+ gave no answer within 2.5 s "
        r"\(--timeout\)",
        printed,
        re.MULTILINE,
    )
    assert "2 calls failed" in printed
    lines = map(json.loads, (tmp_path / "targets.jsonl").read_text().splitlines())
    failed = [line["problem"] for line in lines if line["kind"] == "failed_call"]
    assert failed == ["T2-H1008-I496-E8-K2-bf16", "T4-H1008-I496-E8-K2-bf16"]
    assert "(--timeout)" in (tmp_path / "targets.html").read_text()


@pytest.mark.parametrize("name", ["raising", "without_kernels"])
def test_command_fails_without_code(name: str) -> None:
    subject = f"{_SUBJECTS}:{name}"
    arguments = ["targets", "--target", "sm_80", "--dtype", "bf16", "--implementation", subject]
    assert main(arguments) == 1
