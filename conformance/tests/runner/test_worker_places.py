"""Each worker has a GPU of its own, on a simulated machine with four of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from moeproof.case_id import parse_case_id
from moeproof.devices import DeviceError
from moeproof.gpus import Gpu, fitness_warnings, visible_gpus
from moeproof.planned_case import PlannedCase
from moeproof.runner import JudgePool, Subject
from moeproof.verdict import Outcome
from moeproof.worker_places import WorkerPlaces

TESTS = Path(__file__).parents[1]
SUBJECT = f"{TESTS / 'subjects' / 'on_one_gpu.py'}:fused_experts"
CRASHES, HANGS, LOSES_THE_DEVICE = 1, 2, 3
GIB = 2**30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Simulate a machine with GPUs; returns the folder in which the subject notes where it ran."""
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    notes = tmp_path / "notes"
    notes.mkdir()

    def simulate(
        count: int = 4,
        *,
        vendor: str = "cuda",
        changed: dict[int, dict[str, Any]] | None = None,
        processes_per_gpu: int = 1,
        **environment: str,
    ) -> Path:
        gpus = [
            {
                "name": "NVIDIA H200",
                "uuid": f"GPU-{index}",
                "free_bytes": 139 * GIB,
                "total_bytes": 140 * GIB,
                **(changed or {}).get(index, {}),
            }
            for index in range(count)
        ]
        monkeypatch.setenv("SIMULATED_GPUS", json.dumps(gpus))
        monkeypatch.setenv("SIMULATED_VENDOR", vendor)
        monkeypatch.setenv("PYTHONPATH", str(TESTS / "simulated_gpus"))
        monkeypatch.setenv("GPU_NOTES", str(notes))
        monkeypatch.setenv("PROCESSES_PER_GPU", str(processes_per_gpu))
        # The locks of other runs on this machine are not this one's.
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return notes

    return simulate


def cases(*num_tokens: int) -> list[PlannedCase]:
    return [
        PlannedCase(
            parse_case_id(f"T{count}-H16-I16-E4-K2-bf16/uniform/random/contiguous/0"),
            ("accuracy",),
        )
        for count in num_tokens
    ]


def subject(device: str = "cuda", *, timeout_seconds: float = 3.0) -> Subject:
    return Subject(SUBJECT, device, timeout_seconds)


def where(notes: Path) -> dict[int, tuple[str, int]]:
    """Number of tokens -> the GPU it ran on, and the process."""
    found = {}
    for note in notes.glob("T*"):
        gpu, _, process = note.read_text().split()
        found[int(note.name[1:])] = gpu, int(process)
    return found


def gpu(index: int, **changed: Any) -> Gpu:
    values: dict[str, Any] = {
        "index": index,
        "name": "NVIDIA H200",
        "architecture": "sm_90",
        "identity": f"GPU-{index}",
        "free_bytes": 139 * GIB,
        "total_bytes": 140 * GIB,
        "visible_by": ("CUDA_VISIBLE_DEVICES", str(index)),
    }
    return Gpu(**{**values, **changed})


def leased(places: WorkerPlaces, stack: ExitStack) -> Gpu:
    lease = stack.enter_context(places.place(patience_seconds=0.0))
    assert lease is not None
    return lease.gpu


def test_auto_is_a_worker_a_gpu_and_misbehaviour_costs_its_case_alone(machine: Any) -> None:
    """The subject refuses to run on a GPU that another process of it is on."""
    notes = machine()
    planned = cases(CRASHES, HANGS, LOSES_THE_DEVICE, *range(4, 24))
    with JudgePool(subject(), workers="auto") as pool:
        verdicts = {verdict.case_id: verdict for verdict in pool.judge(planned)}
    bad = [
        verdict.case_id.partition("-")[0]
        for verdict in verdicts.values()
        if verdict.outcome is not Outcome.PASS
    ]
    assert sorted(bad) == ["T1", "T2", "T3"]
    on = where(notes)
    assert {gpu for gpu, _ in on.values()} == {"0", "1", "2", "3"}
    # Each of the three workers was replaced, and its GPU went on being used.
    assert len({process for _, process in on.values()}) > 4
    # Nothing is held any more.
    with ExitStack() as stack:
        places = WorkerPlaces.on("cuda", "auto")
        assert len({leased(places, stack).index for _ in range(4)}) == 4


def test_more_workers_than_gpus_share_them_evenly(machine: Any) -> None:
    notes = machine(processes_per_gpu=2)
    with JudgePool(subject(), workers=5) as pool:
        verdicts = list(pool.judge(cases(*range(4, 24))))
    assert {verdict.outcome for verdict in verdicts} == {Outcome.PASS}
    workers = Counter(gpu for gpu, _ in set(where(notes).values()))
    assert sorted(workers.values()) == [1, 1, 1, 2]


def test_many_workers_share_one_gpu_which_stays_visible_as_it_was(machine: Any) -> None:
    notes = machine(count=1, processes_per_gpu=3)
    with JudgePool(subject(), workers=3) as pool:
        verdicts = list(pool.judge(cases(*range(4, 12))))
    assert {verdict.outcome for verdict in verdicts} == {Outcome.PASS}
    assert {gpu for gpu, _ in where(notes).values()} == {"all"}


def test_sharing_is_even_whatever_comes_and_goes(machine: Any) -> None:
    machine()
    gpus = tuple(map(gpu, range(4)))
    places = WorkerPlaces(14, gpus)
    with ExitStack() as stack:
        counts = Counter(leased(places, stack).index for _ in range(14))
        assert sorted(counts.values()) == [3, 3, 4, 4]
    with ExitStack() as stack:
        with ExitStack() as leaving:
            first = [leased(places, leaving).index for _ in range(4)]
            others = [leased(places, stack).index for _ in range(4)]
        assert first == others == [0, 1, 2, 3]
        assert [leased(places, stack).index for _ in range(4)] == first


def test_a_gpu_that_is_taken_is_not_given_again(machine: Any) -> None:
    machine()
    gpus = (gpu(0), gpu(1))
    alone, sharing = WorkerPlaces(2, gpus), WorkerPlaces(3, gpus)
    with ExitStack() as stack:
        assert [leased(alone, stack).index for _ in range(2)] == [0, 1]
        for places in (alone, sharing):
            with pytest.raises(DeviceError, match=rf"no GPU is free.*GPU-0.*process {os.getpid()}"):
                leased(places, stack)
    with ExitStack() as stack:
        assert leased(sharing, stack).index == 0
        assert leased(alone, stack).index == 1
        assert leased(sharing, stack).index == 0


def test_a_lease_outlives_its_owner_in_whoever_inherited_it(machine: Any) -> None:
    machine()
    places = WorkerPlaces(1, (gpu(0),))
    with places.place() as lease:
        assert lease is not None
        heir = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=lease.files
        )
    with pytest.raises(DeviceError, match="no GPU is free"), places.place(patience_seconds=0.3):
        pass
    heir.kill()
    heir.wait()
    with places.place(patience_seconds=0.0):
        pass


def test_a_place_is_waited_for(machine: Any) -> None:
    machine()
    places = WorkerPlaces(1, (gpu(0),))
    with places.place() as lease:
        assert lease is not None
        heir = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(0.7)"], pass_fds=lease.files
        )
    started = time.monotonic()
    with places.place(patience_seconds=30.0):
        assert time.monotonic() - started < 20
    heir.wait()


def test_visible_gpus_follow_the_variable(machine: Any) -> None:
    machine(CUDA_VISIBLE_DEVICES="2,GPU-1")
    found = visible_gpus("cuda")
    assert [each.identity for each in found] == ["GPU-2", "GPU-1"]
    assert [each.visible_by for each in found] == [
        ("CUDA_VISIBLE_DEVICES", "2"),
        ("CUDA_VISIBLE_DEVICES", "GPU-1"),
    ]


@pytest.mark.parametrize(
    "variable", ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"]
)
def test_on_rocm_the_variable_that_is_set_is_narrowed(machine: Any, variable: str) -> None:
    machine(vendor="rocm", **{variable: "1,3"})
    found = visible_gpus("rocm")
    assert [(each.identity, each.visible_by) for each in found] == [
        ("GPU-1", (variable, "1")),
        ("GPU-3", (variable, "3")),
    ]


def test_on_rocm_each_worker_sees_one_gpu(machine: Any) -> None:
    notes = machine(count=2, vendor="rocm")
    with JudgePool(subject("rocm"), workers="auto") as pool:
        verdicts = list(pool.judge(cases(*range(4, 10))))
    assert {verdict.outcome for verdict in verdicts} == {Outcome.PASS}
    assert {gpu for gpu, _ in where(notes).values()} == {"0", "1"}


@pytest.mark.parametrize(
    ("device", "variables"),
    [
        ("cuda", ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")),
        ("cuda", ("ROCR_VISIBLE_DEVICES",)),
        ("rocm", ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")),
        ("rocm", ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")),
    ],
)
def test_variables_that_contradict_each_other_are_named(
    machine: Any, device: str, variables: tuple[str, ...]
) -> None:
    machine(vendor=device, **dict.fromkeys(variables, "0"))
    with pytest.raises(DeviceError) as raised:
        WorkerPlaces.on(device, 1)
    for variable in variables:
        assert f"{variable}='0'" in str(raised.value)


def test_a_gpu_of_little_free_memory_is_named(machine: Any) -> None:
    machine(changed={2: {"free_bytes": 30 * GIB}})
    with pytest.raises(DeviceError, match=r"GPU 2 \(NVIDIA H200, GPU-2\) has 30.0 of 140.0 GiB"):
        WorkerPlaces.on("cuda", "auto")
    (warning,) = fitness_warnings([gpu(0), gpu(1, free_bytes=100 * GIB)])
    assert warning.startswith("GPU 1 (NVIDIA H200, GPU-1) has 100.0 of 140.0 GiB free (71%)")
    assert fitness_warnings([gpu(0)]) == ()


def test_gpus_of_two_models_are_refused() -> None:
    gpus = [gpu(0), gpu(1), gpu(2, name="NVIDIA A100")]
    with pytest.raises(DeviceError, match=r"of one model, found GPU 0 .*H200.* and GPU 2 .*A100"):
        fitness_warnings(gpus)


def test_partitions_of_one_gpu_are_told_apart(machine: Any) -> None:
    machine(count=2, changed={1: {"uuid": "GPU-0"}})
    assert [each.identity for each in visible_gpus("cuda")] == ["GPU-0", "GPU-0-2"]


def test_on_the_cpu_auto_is_a_worker_a_core() -> None:
    places = WorkerPlaces.on("cpu", "auto")
    assert places == WorkerPlaces(len(os.sched_getaffinity(0)))
    with places.place() as lease:
        assert lease is None


@pytest.mark.parametrize(("workers", "cores"), [(1, 8), (3, 2), (9, 1)])
def test_workers_share_the_cores(workers: int, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulated GPU divides its launches among the cores of its worker."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    subjects: list[Subject] = []

    class Judge:
        def __init__(self, subject: Subject, lease: object) -> None:
            subjects.append(subject)

        def __enter__(self) -> Judge:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def start(self) -> None:
            pass

    monkeypatch.setattr("moeproof.runner.IsolatedJudge", Judge)
    with JudgePool(subject("gfx942"), workers=workers):
        assert [each.cores for each in subjects] == [cores] * workers


def test_workers_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        WorkerPlaces.on("cpu", 0)


def test_the_supervisor_does_not_import_torch(machine: Any) -> None:
    machine()
    script = (
        "import sys; from moeproof.worker_places import WorkerPlaces\n"
        "assert WorkerPlaces.on('cuda', 'auto').workers == 4\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_command_line_takes_auto(machine: Any) -> None:
    notes = machine(count=2)
    result = _moeproof("-n", "auto", *_CASES)
    assert result.returncode == 0, result.stderr
    assert {gpu for gpu, _ in where(notes).values()} == {"0", "1"}


def test_an_occupied_gpu_ends_the_command_before_anything_is_written(
    machine: Any, tmp_path: Path
) -> None:
    machine(changed={2: {"free_bytes": GIB}})
    report = tmp_path / "report"
    result = _moeproof("-n", "auto", "--report", str(report), *_CASES)
    assert result.returncode == 2
    assert "error: GPU 2 (NVIDIA H200, GPU-2) has 1.0 of 140.0 GiB free (1%)" in result.stderr
    assert not (report / "report.jsonl").exists()
    assert not (report / "report.partial.jsonl").exists()


def test_a_warning_does_not_end_it(machine: Any) -> None:
    machine(count=1, changed={0: {"free_bytes": 100 * GIB}})
    result = _moeproof("-n", "1", *_CASES[:2])
    assert result.returncode == 0, result.stderr
    assert "warning: GPU 0 (NVIDIA H200, GPU-0) has 100.0 of 140.0 GiB free" in result.stderr


def test_pytest_takes_auto_and_a_crashed_process_leaves_its_gpu(
    machine: Any, tmp_path: Path
) -> None:
    """``-n auto`` under pytest-xdist; one of its processes is killed, and so is its worker."""
    notes = machine(count=2)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", "moeproof.suite", "-v", "-n", "auto"),
            *("--implementation", SUBJECT, "--moeproof-device", "cuda", "-p", "killing"),
            *("-k", "accuracy and H64-I48-E8-K2-bf16 and uniform and contiguous and not exact"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{TESTS / 'subjects'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert "2 workers" in result.stdout, result.stdout + result.stderr
    assert "replacing crashed worker" in result.stdout
    assert "is in use by another process" not in result.stdout
    assert "no GPU is free" not in result.stdout
    assert sorted(where(notes)) == [0, 3, 17, 33, 63]
    # Both GPUs were worked on, whichever of them the others were judged on in the end.
    assert {claim.name for claim in notes.glob("*.claim")} == {"0.0.claim", "1.0.claim"}


_CASES = ["--case", *(case.case.case_id for case in cases(4, 5, 6, 7, 8, 9))]


def _moeproof(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "moeproof.cli", "run"),
            *("--implementation", SUBJECT, "--device", "cuda", *arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
