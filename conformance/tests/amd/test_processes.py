"""Workgroups spread over processes: the same bits, counts and faults, and races between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moeproof.amd import processes
from moeproof.amd.access_record import AccessRecord, WorkgroupRaceError, merge
from moeproof.amd.launch import LaunchFigures
from moeproof.amd.memory import AddressSpace, MemoryFault
from moeproof.amd.workgroups import WorkgroupRunner

Kernels = Callable[..., Any]
Run = Callable[..., LaunchFigures]


@pytest.fixture
def run(kernels_of: Kernels, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a kernel on gfx942, or `arch`, in 2 processes, or `processes`, however short it is."""
    monkeypatch.setattr(processes, "WORTH_A_PROCESS", 1)

    def run(
        name: str,
        arguments: Mapping[str, Any],
        *,
        grid: tuple[int, ...],
        arch: str = "gfx942",
        processes: int = 2,
    ) -> LaunchFigures:
        figures: LaunchFigures = kernels_of(arch).run(
            name, arguments, grid=grid, processes=processes
        )
        return figures

    return run


@pytest.fixture
def processes_that_ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """How many processes executed workgroups."""
    run = WorkgroupRunner.run

    def noted(self: WorkgroupRunner, *arguments: Any) -> Any:
        (tmp_path / str(os.getpid())).touch()
        return run(self, *arguments)

    monkeypatch.setattr(WorkgroupRunner, "run", noted)
    return lambda: len(list(tmp_path.iterdir()))


@pytest.mark.parametrize("arch", ["gfx942", "gfx1201"])
@pytest.mark.parametrize("processes", [2, 3])
def test_the_same_bits_and_counts(
    run: Run, processes_that_ran: Any, random_tensor: Any, arch: str, processes: int
) -> None:
    x = random_tensor(72, 1000)
    outs = [torch.full_like(x, torch.nan) for _ in range(2)]
    alone, spread = (
        run(
            "softmax",
            {"x_ptr": x, "out_ptr": out, "columns": 1000},
            grid=(72,),
            arch=arch,
            processes=number,
        )
        for out, number in zip(outs, (1, processes), strict=True)
    )
    assert processes_that_ran() == processes
    assert torch.equal(outs[0].view(torch.int32), outs[1].view(torch.int32))
    assert not outs[1].isnan().any()
    assert (alone.opcodes, alone.lds_races, alone.unwritten_lds_reads, alone.waves) == (
        (spread.opcodes, spread.lds_races, spread.unwritten_lds_reads, spread.waves)
    )


@pytest.mark.parametrize("rows", [10, 60, 80])
def test_a_fault_is_the_same(run: Run, random_tensor: Any, rows: int) -> None:
    """Rows without memory: in this process's share, in the other's first and second gang."""
    x, out = random_tensor(96, 1000), torch.zeros(rows, 1000)
    found = []
    for number in (1, 2):
        out.zero_()
        with pytest.raises(MemoryFault, match=f"of 'out_ptr', which has {4000 * rows}") as raised:
            run(
                "softmax",
                {"x_ptr": x, "out_ptr": out, "columns": 1000},
                grid=(96,),
                processes=number,
            )
        # How many more lanes fault depends on what the allocator has put behind.
        message, others, _ = str(raised.value).partition(" and ")
        assert others
        found.append((message, raised.value.lanes[0], out.clone()))
    assert found[0][:2] == found[1][:2]
    assert torch.equal(found[0][2], found[1][2])
    before = rows // 24 * 24  # those of the gangs before
    assert torch.allclose(found[1][2][:before], torch.softmax(x[:before], 1))


def test_different_values_at_one_place_are_a_race(run: Run) -> None:
    x, out = torch.arange(64, dtype=torch.int32) // 32, torch.full((16,), 7, dtype=torch.int32)
    message = (
        r"kernel 'element_kernel': workgroups \(0, 0, 0\) to \(31, 0, 0\) wrote byte 0 of "
        r"'out_ptr', which workgroups \(32, 0, 0\) to \(63, 0, 0\) wrote with another value "
        r"\(16 bytes\)"
    )
    with pytest.raises(WorkgroupRaceError, match=message):
        run("element", {"x_ptr": x, "out_ptr": out, "period": 16}, grid=(64,))


def test_equal_values_at_one_place_are_none(run: Run, processes_that_ran: Any) -> None:
    x, out = torch.full((64,), 5, dtype=torch.int32), torch.zeros(16, dtype=torch.int32)
    run("element", {"x_ptr": x, "out_ptr": out, "period": 16}, grid=(64,))
    assert processes_that_ran() == 2
    assert out.tolist() == [5] * 16


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        (2, r"\(31, 0, 0\) wrote byte 128 of .*, which workgroups \(32, .* read \(8 bytes\)"),
        (-2, r"\(63, 0, 0\) wrote byte 128 of .*, which workgroups \(0, .* read \(8 bytes\)"),
    ],
)
def test_reading_what_others_write_is_a_race(run: Run, shift: int, message: str) -> None:
    """Each workgroup stores behind, or before, the place that it reads."""
    x = torch.arange(68, dtype=torch.int32)
    arguments = {"x_ptr": x[max(-shift, 0) :], "out_ptr": x[max(shift, 0) :], "period": 64}
    with pytest.raises(WorkgroupRaceError, match=message):
        run("element", arguments, grid=(64,))


def test_a_place_of_ones_own_may_be_read_and_written(run: Run, processes_that_ran: Any) -> None:
    x = torch.arange(64, dtype=torch.int32)
    run("element", {"x_ptr": x, "out_ptr": x, "period": 64}, grid=(64,))
    assert processes_that_ran() == 2
    assert x.tolist() == list(range(64))


def test_what_was_read_after_ones_own_store_is_ones_own() -> None:
    """Two shares that keep the same value at the same place, and look at it."""
    memory = AddressSpace()
    scratch = memory.allocate("scratch", 16)
    address = np.array([scratch.address + 4], np.uint64)
    records = [AccessRecord(memory.allocations) for _ in range(2)]
    for record in records:
        memory.record = record
        memory.store(address, None, np.array([[9]], np.uint32), size=4)
        memory.load(address, None, size=4)
        record.keep_values(memory)
    memory.record = None
    assert merge(memory, records, names=["a", "b"]) == []
    memory.record = records[0]
    memory.load(address + np.uint64(2), None, size=4)
    memory.record = None
    assert merge(memory, records, names=["a", "b"]) == []
    records[1].write(address + np.uint64(2), 4)
    records[1].keep_values(memory)
    assert merge(memory, records, names=["a", "b"]) == [
        "b wrote byte 8 of 'scratch', which a read (2 bytes)"
    ]


def test_three_shares() -> None:
    """The stores of all reach memory, in order, and the race is named by the two that met."""
    memory = AddressSpace()
    out = memory.allocate("out", 12)
    records = [AccessRecord(memory.allocations) for _ in range(3)]
    for record, (place, value) in zip(records, [(0, 1), (4, 2), (4, 3)], strict=True):
        memory.record = record
        address = np.array([out.address + place], np.uint64)
        memory.store(address, None, np.array([[value]], np.uint32), size=4)
        record.keep_values(memory)
        memory.record = None
        if record is not records[0]:
            memory.store(address, None, np.array([[0]], np.uint32), size=4)
    races = merge(memory, records, names=["a", "b", "c"])
    assert memory.contents(out).view(np.uint32).tolist() == [1, 3, 0]
    assert races == ["b wrote byte 4 of 'out', which c wrote with another value (1 bytes)"]


def test_atomics_stay_in_one_process(run: Run, processes_that_ran: Any) -> None:
    x = torch.arange(10_000, dtype=torch.int32) % 17
    total, most = torch.zeros(8), torch.zeros(8, dtype=torch.int32)
    last = torch.zeros(50, dtype=torch.int32)
    arguments = {"x_ptr": x, "sum_ptr": total, "most_ptr": most, "last_ptr": last, "n": 10_000}
    run("atomics", arguments, grid=(40,))
    assert processes_that_ran() == 1
    assert torch.equal(total, x.view(1250, 8).sum(0).float())


def test_short_launches_stay_in_one_process(
    kernels_of: Kernels, random_tensor: Any, processes_that_ran: Any
) -> None:
    x, out = random_tensor(40, 1000), torch.zeros(40, 1000)
    arguments = {"x_ptr": x, "out_ptr": out, "columns": 1000}
    kernels_of("gfx942").run("softmax", arguments, grid=(40,), processes=2)
    assert processes_that_ran() == 1


def test_forked_processes_multiply_matrices(
    run: Run, random_tensor: Any, processes_that_ran: Any
) -> None:
    """After torch and numpy have started their threads, which the fork leaves behind."""
    large = np.ones((512, 512))
    assert (large @ large).max() == (torch.ones(512, 512) @ torch.ones(512, 512)).max() == 512
    a, b = random_tensor(512, 64, dtype=torch.half), random_tensor(64, 512, dtype=torch.half)
    out = torch.full((512, 512), torch.nan)
    arguments = {"a_ptr": a, "b_ptr": b, "c_ptr": out, "M": 512, "N": 512, "K": 64}
    run("matmul_fp16", arguments, grid=(8, 8))
    assert processes_that_ran() == 2
    torch.testing.assert_close(out, a.float() @ b.float(), rtol=2**-12, atol=2**-12)


def test_a_gang_is_not_divided(run: Run, random_tensor: Any, processes_that_ran: Any) -> None:
    x = random_tensor(24, 1000)
    run("softmax", {"x_ptr": x, "out_ptr": torch.zeros_like(x), "columns": 1000}, grid=(24,))
    assert processes_that_ran() == 1


def test_where_no_process_can_be_forked_there_is_one(
    run: Run, random_tensor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first fork succeeds, the second does not."""
    fork, forks = os.fork, iter([True, False])

    def failing() -> int:
        if not next(forks):
            raise OSError(12, "Cannot allocate memory")
        return fork()

    monkeypatch.setattr(os, "fork", failing)
    x = random_tensor(72, 1000)
    out = torch.full_like(x, torch.nan)
    arguments = {"x_ptr": x, "out_ptr": out, "columns": 1000}
    run("softmax", arguments, grid=(72,), processes=3)
    assert list(forks) == []
    assert torch.allclose(out, torch.softmax(x, 1))


def test_much_memory_is_not_watched(
    run: Run, processes_that_ran: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors whose rows lie gigabytes apart have a note for no byte."""
    monkeypatch.setattr(processes, "_MOST_BYTES", 1000)
    x = torch.arange(64, dtype=torch.int32)
    out = torch.zeros(1024, dtype=torch.int32)
    run("element", {"x_ptr": x, "out_ptr": out, "period": 64}, grid=(64,))
    assert processes_that_ran() == 1


def test_a_process_that_dies_is_an_error(
    run: Run, random_tensor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, execute = os.getpid(), WorkgroupRunner.run
    monkeypatch.setattr(
        WorkgroupRunner,
        "run",
        lambda self, *rest: execute(self, *rest) if os.getpid() == here else os._exit(3),
    )
    arguments = {"x_ptr": random_tensor(40, 1000), "out_ptr": torch.zeros(40, 1000)}
    with pytest.raises(RuntimeError, match="ended with code 3"):
        run("softmax", {**arguments, "columns": 1000}, grid=(40,))


def test_processes_must_be_some(run: Run, random_tensor: Any) -> None:
    x = random_tensor(2, 1000)
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        run("softmax", {"x_ptr": x, "out_ptr": x, "columns": 1000}, grid=(2,), processes=0)
