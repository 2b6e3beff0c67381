"""Ordinary Triton code runs on an emulated GPU, through the suite, like on any other device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from moeproof.case import Layout
from moeproof.devices import EMULATED_DEVICES, Device, DeviceError, describe, prepare_environment
from moeproof.isolated_judge import IsolatedJudge
from moeproof.layout import place
from moeproof.loaded_subject import LoadedSubject
from moeproof.owned_memory import owned_bytes
from moeproof.poison import PoisonedAllocations
from moeproof.verdict import Outcome, Verdict
from moeproof.worker_messages import Subject

_SUBJECTS = Path(__file__).parents[1] / "subjects" / "triton_experts.py"
_CASE = "T5-H40-I24-E4-K2-{dtype}/zipf/random/contiguous/1"


def _judge(name: str, device: str, case_id: str, *checks: str) -> list[Verdict]:
    with IsolatedJudge(Subject(f"{_SUBJECTS}:{name}", device, 120.0)) as judge:
        judge.start()
        return [judge.judge_check(case_id, check) for check in checks]


@pytest.mark.parametrize("device", EMULATED_DEVICES)
def test_any_triton_implementation_runs(device: str) -> None:
    case_id = _CASE.format(dtype="bf16")
    for verdict in _judge("right", device, case_id, "accuracy", "memory", "determinism"):
        assert verdict.outcome is Outcome.PASS, verdict.message


def test_an_access_out_of_bounds_is_caught_and_named() -> None:
    case_id = _CASE.format(dtype="fp32")
    (verdict,) = _judge("unbounded", "gfx942", case_id, "accuracy")
    assert verdict.outcome is Outcome.ERROR
    assert "MemoryFault" in verdict.message
    assert "of 'w_ptr', which has 30720 bytes" in verdict.message


@pytest.mark.parametrize(
    ("name", "outcome", "message"),
    [
        ("nothing_removed", Outcome.PASS, ""),
        ("without_barriers", Outcome.ERROR, "RaceError: kernel"),
        ("without_selects", Outcome.ERROR, "MemoryFault: kernel"),
    ],
)
def test_faults_of_the_machine_code_are_caught(name: str, outcome: Outcome, message: str) -> None:
    """What no test of the source sees: the compiler's barriers, and what keeps lanes in bounds."""
    case_id = "T33-H64-I48-E8-K2-bf16/zipf/random/contiguous/7"
    subject = Subject(f"{_SUBJECTS.with_name('edited_binaries.py')}:{name}", "gfx942", 120.0)
    with IsolatedJudge(subject) as judge:
        judge.start()
        verdict = judge.judge_check(case_id, "memory")
    assert (verdict.outcome, verdict.message[: len(message)]) == (outcome, message)


@pytest.mark.parametrize("cores", [1, 3, None])
def test_a_worker_uses_its_cores(cores: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Found(Exception):  # noqa: N818 - no error
        pass

    def emulated_gpu(arch: str, *, processes: int | None) -> None:
        raise Found(arch, processes)

    monkeypatch.setattr("moeproof.amd.driver.EmulatedGpu", emulated_gpu)
    subject = Subject(f"{_SUBJECTS}:right", "gfx942", 120.0, cores)
    with pytest.raises(Found) as found:
        LoadedSubject(subject, Device("gfx942"))
    assert found.value.args == ("gfx942", cores)


@pytest.mark.parametrize("layout", [Layout.CONTIGUOUS, Layout.OFFSET, Layout.ROW_PADDED])
def test_guard_zones_are_out_of_bounds(layout: Layout) -> None:
    placed = place(np.ones((3, 4), np.float32), layout=layout, device=torch.device("cpu"))
    first, size = owned_bytes(placed.tensor)
    assert first == placed.tensor.data_ptr()
    row = placed.tensor.stride(0)
    assert size == 4 * (2 * row + 4)
    assert owned_bytes(placed.tensor[1:].view(torch.int32)) == (first, size)


def test_a_poisoned_allocation_owns_what_was_asked_for() -> None:
    with PoisonedAllocations():
        tensor = torch.empty(6, 2)
    assert owned_bytes(tensor[3:]) == (tensor.data_ptr(), 48)


def test_an_ordinary_tensor_owns_its_storage() -> None:
    tensor = torch.zeros(10)
    assert owned_bytes(tensor[4:6]) == (tensor.data_ptr(), 40)


def test_kernels_are_compiled_not_interpreted() -> None:
    environ = {"TRITON_INTERPRET": "1"}
    prepare_environment("gfx942", environ)
    assert environ == {}


def test_an_emulated_device_says_so() -> None:
    description = describe(Device("gfx1100"))
    assert description["name"] == "emulated gfx1100"
    assert description["architecture"] == "gfx1100"
    assert Device("gfx1100").torch_device == torch.device("cpu")


def test_a_missing_emulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from moeproof import devices

    monkeypatch.setattr(devices, "_EMULATOR_MODULES", ("absent_decoder",))
    with pytest.raises(DeviceError, match=r"needs absent_decoder; install moeproof\[amd,cpu\]"):
        devices.resolve_device("gfx942")
