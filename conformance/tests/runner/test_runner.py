"""Whatever an implementation does costs it one case; the others are judged as ever."""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moeproof.case_id import parse_case_id
from moeproof.devices import DeviceError
from moeproof.implementation import ImplementationError
from moeproof.isolated_judge import IsolatedJudge
from moeproof.planned_case import PlannedCase
from moeproof.runner import JudgePool, run
from moeproof.verdict import Outcome
from moeproof.worker_messages import Subject

SUBJECTS = Path(__file__).parents[1] / "subjects"
MISBEHAVING = f"{SUBJECTS / 'misbehaving.py'}:fused_experts"
BEHAVIOURS = [
    behaviour.__name__
    for behaviour in runpy.run_path(str(SUBJECTS / "misbehaving.py"))["BEHAVIOURS"]
]
TIMEOUT_SECONDS = 2.0


def planned(num_tokens: int, *checks: str) -> PlannedCase:
    case_id = f"T{num_tokens}-H16-I16-E4-K2-bf16/uniform/random/contiguous/0"
    return PlannedCase(parse_case_id(case_id), checks or ("accuracy",))


def subject(reference: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Subject:
    return Subject(str(SUBJECTS / reference), "cpu", timeout_seconds)


def misbehaviour(name: str) -> PlannedCase:
    """The case on which the subject misbehaves in this way."""
    return planned(BEHAVIOURS.index(name))


REPORTED = {
    "raises": (Outcome.ERROR, "RuntimeError: no such tile"),
    "raises_what_cannot_be_printed": (Outcome.ERROR, "exited with code 1; it last wrote"),
    "returns_wrong_shape": (Outcome.FAIL, "output has shape (2, 16), expected (3, 16)"),
    "returns_wrong_dtype": (Outcome.FAIL, "output has dtype torch.float64"),
    "returns_wrong_device": (Outcome.FAIL, "output is on meta, expected cpu"),
    "returns_nan": (Outcome.FAIL, "96 of 96 elements"),
    "returns_none": (Outcome.FAIL, "output is a NoneType, not a tensor"),
    "prints_garbage": (Outcome.PASS, ""),
    "closes_its_standard_streams": (Outcome.PASS, ""),
    "hangs": (Outcome.ERROR, f"no answer within 2 s at {SUBJECTS / 'misbehaving.py'}:"),
    "hangs_with_the_gil_held": (Outcome.ERROR, "no answer within 2 s at "),
    "stops_itself": (Outcome.ERROR, "no answer within 2 s"),
    "exits": (Outcome.ERROR, "exited with code 3; it last wrote: giving up"),
    "leaves_with_sys_exit": (Outcome.ERROR, "exited with code 1; it last wrote: SystemExit"),
    "exits_with_a_child_alive": (Outcome.ERROR, "exited with code 4"),
    "segfaults": (Outcome.ERROR, "was killed by SIGSEGV at "),
    "aborts": (Outcome.ERROR, "was killed by SIGABRT at "),
    "loses_the_device": (
        Outcome.ERROR,
        "left an error on the device: RuntimeError: CUDA error: an illegal memory access",
    ),
}
WRITES = {
    "writes_past_its_input": "the guard zone of hidden_states was written",
    "writes_its_input": "the values of hidden_states was written",
}


def test_every_misbehaviour_is_expected_here() -> None:
    assert {"fused_experts", *REPORTED, *WRITES} == set(BEHAVIOURS)


def test_misbehaviour_is_reported_and_costs_one_case() -> None:
    """One run for all, since each replaced worker costs seconds."""
    right_cases = [planned(30 + turn) for turn in range(len(REPORTED))]
    plan = []
    for name, right_case in zip(REPORTED, right_cases, strict=True):
        plan += [misbehaviour(name), right_case]
    with JudgePool(subject("misbehaving.py:fused_experts"), workers=2) as pool:
        received = list(pool.judge(plan))
    assert len(received) == len(plan)
    verdicts = {verdict.case_id: verdict for verdict in received}
    for name, (outcome, message) in REPORTED.items():
        case_id = misbehaviour(name).case.case_id
        verdict = verdicts[case_id]
        assert (name, verdict.outcome) == (name, outcome), verdict.message
        assert message in verdict.message
        assert verdict.seconds < 10 * TIMEOUT_SECONDS
        assert verdict.reproducer == (
            f"moeproof replay {case_id} --check accuracy --implementation {MISBEHAVING} "
            "--device cpu"
        )
    crashed = verdicts[misbehaviour("segfaults").case.case_id]
    assert "in segfaults" in crashed.evidence["output"]
    assert {verdicts[case.case.case_id].outcome for case in right_cases} == {Outcome.PASS}


def test_writing_where_it_must_not_is_reported() -> None:
    # The first check of memory in a process takes torch seconds, to import what its modes need.
    patient = subject("misbehaving.py:fused_experts", timeout_seconds=60.0)
    with IsolatedJudge(patient) as judge:
        for name, message in WRITES.items():
            verdict = judge.judge_check(misbehaviour(name).case.case_id, "memory")
            assert (verdict.outcome, verdict.message) == (Outcome.FAIL, message)
        assert judge.judge_check(planned(30).case.case_id, "memory").outcome is Outcome.PASS


def test_the_checks_after_a_crash_are_not_judged() -> None:
    with IsolatedJudge(subject("misbehaving.py:fused_experts")) as judge:
        case = planned(BEHAVIOURS.index("exits"), "accuracy", "metamorphic", "rejects")
        first, *others = judge.judge(case)
        assert "exited with code 3" in first.message
        assert [verdict.check for verdict in others] == ["metamorphic", "rejects"]
        assert {verdict.outcome for verdict in others} == {Outcome.ERROR}
        assert {verdict.message for verdict in others} == {
            "not judged: the process died in check accuracy"
        }
        again = judge.judge_check(case.case.case_id, "accuracy")
        assert "exited with code 3" in again.message


def test_a_hanging_worker_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    with IsolatedJudge(subject("misbehaving.py:hangs_and_leaves_a_trace")) as judge:
        assert judge.judge(planned(1))[0].outcome is Outcome.ERROR
        pids = (tmp_path / "pids").read_text().split()
        assert len(pids) == 2
        wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_leaving_a_run_kills_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    hour = subject("misbehaving.py:hangs_and_leaves_a_trace", timeout_seconds=3600.0)
    with JudgePool(hour, workers=2) as pool:
        verdicts = pool.judge([planned(1), planned(5)])
        assert next(verdicts).outcome is Outcome.PASS
        wait_until((tmp_path / "pids").exists)
        verdicts.close()  # type: ignore[attr-defined]
    pids = (tmp_path / "pids").read_text().split()
    wait_until(lambda: not any(is_running(pid) for pid in pids))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("raises_at_import.py:fused_experts", "libgpu.so: cannot open shared object file"),
        ("segfaults_at_import.py:fused_experts", "a library that is not for this machine"),
        ("right.py:unknown", "has no attribute 'unknown'"),
    ],
)
def test_what_cannot_be_loaded_is_an_error_before_any_verdict(reference: str, message: str) -> None:
    plan = [planned(3)]
    with pytest.raises(ImplementationError, match=message):
        list(
            run(
                plan,
                implementation=str(SUBJECTS / reference),
                device="cpu",
                workers=1,
                timeout_seconds=TIMEOUT_SECONDS,
            )
        )


def test_a_missing_device_is_an_error_before_any_verdict() -> None:
    missing = Subject(str(SUBJECTS / "right.py:fused_experts"), "rocm", TIMEOUT_SECONDS)
    with pytest.raises(DeviceError, match="rocm"), JudgePool(missing, workers=1):
        pass


def test_a_worker_that_cannot_be_replaced_leaves_no_case_without_a_verdict(
    tmp_path: Path,
) -> None:
    """As when the GPU is gone after a crash."""
    vanishing = tmp_path / "vanishing.py"
    vanishing.write_text((SUBJECTS / "misbehaving.py").read_text())
    (tmp_path / "right.py").write_text((SUBJECTS / "right.py").read_text())
    reference = f"{vanishing}:fused_experts"
    with JudgePool(Subject(reference, "cpu", TIMEOUT_SECONDS), workers=1) as pool:
        vanishing.unlink()
        plan = [planned(30), planned(BEHAVIOURS.index("exits")), planned(31), planned(32)]
        verdicts = list(pool.judge(plan))
    assert [verdict.outcome for verdict in verdicts] == [Outcome.PASS] + [Outcome.ERROR] * 3
    assert "exited with code 3" in verdicts[1].message
    for verdict in verdicts[2:]:
        assert verdict.message.startswith("not judged: no worker could be started")
        assert "vanishing.py does not exist" in verdict.message


def test_the_parent_process_needs_no_torch() -> None:
    program = (
        "import sys; from moeproof import runner, console, report_directory; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: str) -> bool:
    """Whether the process is there and no zombie."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
