"""Loads that go straight to the LDS: the waits for them, in a binary and one by one."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from moeproof.amd.code_object import CodeObject
from moeproof.amd.decoding import Instruction, disassemble
from moeproof.amd.direct_loads import UnfinishedLoadError
from moeproof.amd.lds import Lds
from moeproof.amd.lds_record import LdsRace
from moeproof.amd.transfers import transfer_of
from moeproof.amd.waits import loads_left, missing_waits

# On gfx950 the compiler makes loads to the LDS of this kernel's, before its loop and in it.
KERNEL = "matmul_fp32"
_LOAD_COUNTER = 0xC00F  # its bits in s_waitcnt of CDNA


@pytest.fixture
def run(kernels_of: Callable[..., Any], random_tensor: Any) -> Callable[..., Any]:
    """(code, seed) -> (product, exact product, races)."""
    a, b = random_tensor(32, 160), random_tensor(160, 32, seed=1)

    def product(code: CodeObject | None = None, seed: int | None = None) -> Any:
        c = torch.full((32, 32), torch.nan)
        arguments = {"a_ptr": a, "b_ptr": b, "c_ptr": c, "M": 32, "N": 32, "K": 160}
        figures = kernels_of("gfx950").run(
            KERNEL, arguments, grid=(1, 1), code=code, wave_order_seed=seed
        )
        assert figures.opcodes["global_load_lds_dword"] > 0
        return c, a.double() @ b.double(), figures.lds_races

    return product


@pytest.fixture
def code(kernels_of: Callable[..., Any]) -> CodeObject:
    found: CodeObject = kernels_of("gfx950").code(KERNEL)
    return found


def waits_for_loads_to_lds(code: CodeObject) -> Iterator[Instruction]:
    """Those before a barrier."""
    instructions = list(disassemble(code))
    for wait, following in pairwise(instructions):
        if loads_left(wait, "cdna") is not None and following.name == "s_barrier":
            yield wait


def with_word(code: CodeObject, address: int, word: int) -> CodeObject:
    image = bytearray(code.image)
    struct.pack_into("<I", image, address, word)
    return replace(code, image=bytes(image))


@pytest.mark.parametrize("seed", [None, 0])
def test_a_right_kernel_passes(run: Callable[..., Any], seed: int | None) -> None:
    product, exact, races = run(seed=seed)
    torch.testing.assert_close(product.double(), exact, rtol=2**-12, atol=2**-12)
    assert races == ()


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("left", [1, 4, 63])
def test_a_wait_that_is_too_weak_is_refused(
    run: Callable[..., Any], code: CodeObject, left: int, seed: int | None
) -> None:
    waits = list(waits_for_loads_to_lds(code))
    assert len(waits) == 2  # before the loop and in it
    (kernel_name,) = code.kernels
    for wait in waits:
        assert loads_left(wait, "cdna") == 0
        word = wait.raw & ~_LOAD_COUNTER | left & 0xF | left >> 4 << 14
        weakened = with_word(code, wait.address, word)
        assert missing_waits(weakened, kernel_name) == []  # only a run can tell
        with pytest.raises(UnfinishedLoadError) as caught:
            run(weakened, seed)
        text = str(caught.value)
        assert re.search(
            r"matmul_kernel.* ds_read\w+ .*global_load_lds_dword at 0x\w+ of wave", text
        )


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_a_wait_behind_the_barrier_is_refused(
    run: Callable[..., Any], code: CodeObject, seed: int | None
) -> None:
    """The wave that waits may read then, the others may not."""
    for wait in waits_for_loads_to_lds(code):
        barrier = wait.address + wait.size
        (word,) = struct.unpack_from("<I", code.image, barrier)
        swapped = with_word(with_word(code, wait.address, word), barrier, wait.raw)
        try:
            _, _, races = run(swapped, seed)
        except UnfinishedLoadError:
            continue
        assert "read and write" in {race.kind for race in races}


LANES, SIZE = 64, 4096
EVERY = np.ones((1, LANES), bool)
WAVES = [np.array([wave]) for wave in range(3)]
DWORD = np.arange(LANES, dtype=np.uint32)[None] * 4
DATA = np.arange(LANES, dtype=np.uint32)[None, None]
READ, WRITE = transfer_of("ds_read_b32"), transfer_of("ds_write_b32")
assert READ is not None
assert WRITE is not None


@pytest.fixture
def lds() -> Lds:
    """Of two workgroups, of two waves and of one."""
    return Lds(workgroup_of_wave=np.array([0, 0, 1]), size=SIZE)


def load(lds: Lds, wave: int, *, at: int, mask: Any = EVERY) -> None:
    """256 bytes from byte ``at`` on."""
    waves = WAVES[wave]
    lds.direct_loads.count(waves)
    m0 = np.array([at], np.uint32)
    lds.store_direct(waves, m0, mask, DATA, offset=0, size=4, by=f"the load to {at}")


def read(lds: Lds, wave: int, *, at: int, lanes: int = LANES) -> None:
    got = lds.load(READ, WAVES[wave], DWORD + np.uint32(at), np.arange(LANES)[None] < lanes)
    assert got[0, 0, :lanes].tolist() == DATA[0, 0, :lanes].tolist()


def test_a_wait_ends_the_oldest_loads(lds: Lds) -> None:
    for at in (0, 256, 512):
        load(lds, 0, at=at)
    lds.direct_loads.count(WAVES[0])  # as a store
    lds.direct_loads.wait(WAVES[0], 2)
    read(lds, 0, at=0)
    read(lds, 0, at=256)
    with pytest.raises(
        UnfinishedLoadError, match=r"byte 512 .* the load to 512 of wave 0"
    ) as caught:
        read(lds, 0, at=512)
    assert (caught.value.byte, caught.value.workgroup, caught.value.wave) == (512, 0, 0)
    lds.direct_loads.wait(WAVES[0], 1)
    read(lds, 0, at=512)


def test_a_wave_waits_for_itself_alone(lds: Lds) -> None:
    load(lds, 0, at=0)
    load(lds, 1, at=256)
    lds.direct_loads.wait(WAVES[0], 0)
    lds.barrier([0, 1])
    read(lds, 1, at=0)
    with pytest.raises(UnfinishedLoadError, match="the load to 256 of wave 1"):
        read(lds, 0, at=256)


def test_loads_of_another_workgroup_do_not_matter(lds: Lds) -> None:
    load(lds, 0, at=0)
    load(lds, 2, at=0)
    lds.direct_loads.wait(WAVES[0], 0)
    read(lds, 0, at=0)
    with pytest.raises(UnfinishedLoadError) as caught:
        read(lds, 2, at=0)
    assert caught.value.workgroup == 1


def test_stores_and_atomics_are_refused_too_and_lanes_that_are_off_hold_nothing(lds: Lds) -> None:
    load(lds, 0, at=0, mask=EVERY & (DWORD >= 16))
    lds.store(WRITE, WAVES[0], DWORD, DWORD < 16, DATA)
    read(lds, 0, at=0, lanes=4)
    with pytest.raises(UnfinishedLoadError, match="LDS store at byte 16 "):
        lds.store(WRITE, WAVES[0], DWORD, EVERY, DATA)
    with pytest.raises(UnfinishedLoadError, match="LDS atomic at byte 16 "):
        lds.atomic("add_u32", WAVES[0], DWORD, EVERY, DATA)


def test_a_full_counter_tells_that_the_oldest_is_done(lds: Lds) -> None:
    load(lds, 0, at=0)
    for _ in range(62):
        lds.direct_loads.count(WAVES[0])
    with pytest.raises(UnfinishedLoadError):
        read(lds, 0, at=0)
    lds.direct_loads.count(WAVES[0])
    read(lds, 0, at=0)


def test_reads_of_others_between_the_wait_and_the_barrier_are_races(lds: Lds) -> None:
    """Also where the load was issued before an earlier barrier."""
    load(lds, 0, at=0)
    lds.barrier([0, 1])
    lds.direct_loads.wait(WAVES[0], 0)
    read(lds, 0, at=0)
    lds.barrier([0, 1])
    assert lds.races == ()
    load(lds, 0, at=256)
    lds.barrier([0, 1])
    lds.direct_loads.wait(WAVES[0], 0)
    read(lds, 1, at=256)
    lds.barrier([0, 1])
    race = LdsRace(
        workgroup=0, interval=3, kind="read and write", first_byte=256, num_bytes=256, waves=(0, 1)
    )
    assert lds.races == (race,)
