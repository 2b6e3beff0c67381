"""LDS: data movement against plain Python, and the races that the record must see."""

from __future__ import annotations

import numpy as np
import pytest

from moeproof.amd.lds import POISON, Lds, LdsFault, transpose
from moeproof.amd.transfers import Transfer, transfer_of

WORKGROUP_OF_WAVE = np.array([0, 0, 1, 1])
LANES = 64
SIZE = 4096
ALL = np.arange(4)
FULL = np.ones((4, LANES), bool)


def named(mnemonic: str) -> Transfer:
    transfer = transfer_of(mnemonic)
    assert transfer is not None
    return transfer


@pytest.fixture
def lds() -> Lds:
    return Lds(workgroup_of_wave=WORKGROUP_OF_WAVE, size=SIZE)


def filled(lds: Lds) -> np.ndarray:
    lds.contents[:] = np.random.default_rng(0).integers(0, 256, lds.contents.shape)
    return lds.contents.copy()


@pytest.mark.parametrize(
    ("mnemonic", "pieces"),
    [
        ("ds_read_u8", [(0, 1)]),
        ("ds_read_u16", [(0, 2)]),
        ("ds_read_b32", [(0, 4)]),
        ("ds_read_b64", [(0, 8)]),
        ("ds_read_b96", [(0, 12)]),
        ("ds_read_b128", [(0, 16)]),
        ("ds_read2_b32", [(5 * 4, 4), (9 * 4, 4)]),
        ("ds_read2st64_b32", [(5 * 256, 4), (9 * 256, 4)]),
        ("ds_load_2addr_b64", [(5 * 8, 8), (9 * 8, 8)]),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_reads(lds: Lds, mnemonic: str, pieces: list[tuple[int, int]], partial: bool) -> None:
    contents = filled(lds)
    rng = np.random.default_rng(1)
    waves = np.array([3, 1, 2])
    addresses = rng.integers(0, SIZE - 2400, (3, LANES)).astype(np.uint32)
    mask = rng.random((3, LANES)) < 0.5 if partial else np.ones((3, LANES), bool)
    addresses[~mask] = SIZE * 9
    two = len(pieces) == 2
    got = lds.load(named(mnemonic), waves, addresses, mask, offsets=(5, 9) if two else (0, 0))
    for row, wave in enumerate(waves):
        for lane in range(LANES):
            held = b"".join(int(dword).to_bytes(4, "little") for dword in got[:, row, lane])
            if not mask[row, lane]:
                assert not any(held)
                continue
            memory = contents[WORKGROUP_OF_WAVE[wave]].tobytes()
            at = int(addresses[row, lane])
            wanted = b"".join(memory[at + offset :][:size] for offset, size in pieces)
            assert held == wanted.ljust(len(held), b"\0")


@pytest.mark.parametrize(
    ("mnemonic", "pieces"),
    [
        ("ds_write_b8", [(0, 1)]),
        ("ds_write_b8_d16_hi", [(0, 1)]),
        ("ds_write_b16_d16_hi", [(0, 2)]),
        ("ds_write_b128", [(0, 16)]),
        ("ds_write2_b32", [(4, 4), (8, 4)]),
        ("ds_store_2addr_stride64_b64", [(512, 8), (1024, 8)]),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_writes(lds: Lds, mnemonic: str, pieces: list[tuple[int, int]], partial: bool) -> None:
    wanted = [bytearray(row.tobytes()) for row in filled(lds)]
    rng = np.random.default_rng(2)
    mask = rng.random((4, LANES)) < 0.5 if partial else FULL
    addresses = np.tile(rng.permutation(2 * LANES).reshape(2, LANES) * 16 + 2, (2, 1))
    data = rng.integers(0, 2**32, (named(mnemonic).dwords, 4, LANES), dtype=np.uint32)
    two = len(pieces) == 2
    lds.store(
        named(mnemonic),
        ALL,
        addresses.astype(np.uint32),
        mask,
        data,
        offsets=(1, 2) if two else (0, 0),
    )
    registers = 0
    for offset, size in pieces:
        for wave, lane in np.argwhere(mask):
            value = data[registers:, wave, lane].tobytes()
            value = value[2:] if mnemonic.endswith("hi") else value
            at = int(addresses[wave, lane]) + offset
            wanted[WORKGROUP_OF_WAVE[wave]][at : at + size] = value[:size]
        registers += size // 4
    assert [row.tobytes() for row in lds.contents] == [bytes(row) for row in wanted]


def test_a_load_into_half_a_register_keeps_the_other(lds: Lds) -> None:
    lds.contents[:, :2] = [0xCD, 0xAB]
    zeros, old = np.zeros((4, LANES), np.uint32), np.full((1, 4, LANES), 0x12345678, np.uint32)
    got = lds.load(named("ds_read_u16_d16_hi"), ALL, zeros, FULL, old=old)
    assert (got == 0xABCD5678).all()


def test_past_the_end_is_a_fault_that_names_wave_and_lane(lds: Lds) -> None:
    addresses = np.full((2, LANES), SIZE - 16, np.uint32)
    waves, mask = np.array([1, 3]), np.ones((2, LANES), bool)
    lds.load(named("ds_read_b128"), waves, addresses, mask)
    addresses[1, 9] += 4
    with pytest.raises(LdsFault, match=r"byte 4084 of 4096 .*\(3, 9\)") as caught:
        lds.load(named("ds_read_b128"), waves, addresses, mask)
    assert caught.value.lanes == [(3, 9)]
    data = np.zeros((1, 2, LANES), np.uint32)
    with pytest.raises(LdsFault):
        lds.store(named("ds_write_b32"), waves, addresses, mask, data, offsets=(16, 0))


def test_a_base_below_zero_wraps_into_range_with_its_offset(lds: Lds) -> None:
    contents = filled(lds)
    addresses = np.full((4, LANES), 2**32 - 8, np.uint32)
    got = lds.load(named("ds_read_b32"), ALL, addresses, FULL, offsets=(12, 0))
    assert got[0, 0, 0] == contents[0, 4:8].view(np.uint32)[0]


def test_direct_stores_go_where_m0_says(lds: Lds) -> None:
    m0 = np.array([0, 1024, 0, 2048], np.uint32)
    data = np.arange(4 * 4 * LANES, dtype=np.uint32).reshape(4, 4, LANES)
    lds.store_direct(ALL, m0, FULL, data, offset=16, size=16, by="a load")
    for wave in range(4):
        for lane in range(LANES):
            at = int(m0[wave]) + 16 + 16 * lane
            held = lds.contents[WORKGROUP_OF_WAVE[wave], at : at + 16].copy().view(np.uint32)
            assert held.tolist() == data[:, wave, lane].tolist()


def test_unwritten_bytes_are_poison_and_their_reads_are_counted(lds: Lds) -> None:
    addresses = np.tile(np.arange(LANES, dtype=np.uint32) * 4, (4, 1))
    assert (lds.contents == POISON).all()
    half = FULL & (np.arange(LANES) < 32)
    ones = np.ones((1, 4, LANES), np.uint32)
    lds.store(named("ds_write_b32"), ALL, addresses, half, ones)
    got = lds.load(named("ds_read_b32"), ALL, addresses, FULL)
    assert (got[0, :, :32] == 1).all()
    assert np.isnan(got[0, :, 32:].copy().view(np.float32)).all()
    assert lds.unwritten_reads == 4 * 32
    lds.load(named("ds_read_b32"), ALL, addresses, half)
    assert lds.unwritten_reads == 4 * 32


def test_atomics_return_and_update(lds: Lds) -> None:
    lds.contents[:] = 0
    addresses = np.zeros((4, LANES), np.uint32)
    ones = np.ones((1, 4, LANES), np.uint32)
    before = lds.atomic("add_u32", ALL, addresses, FULL, ones, offset=8)
    assert sorted(before[0, :2].reshape(-1)) == list(range(128))
    assert sorted(before[0, 2:].reshape(-1)) == list(range(128))
    assert lds.contents[:, 8:12].copy().view(np.uint32).tolist() == [[128], [128]]


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_transposing_read_gives_columns_of_sixteen_lanes(bits: int) -> None:
    per_lane = 64 // bits
    rng = np.random.default_rng(bits)
    elements = rng.integers(0, 2**bits, (3, LANES, per_lane))

    def packed(values: np.ndarray) -> np.ndarray:
        dwords = np.zeros((2, 3, LANES), np.uint32)
        for wave, lane, i in np.ndindex(values.shape):
            place = i * bits
            dwords[place // 32, wave, lane] |= np.uint32(int(values[wave, lane, i]) << place % 32)
        return dwords

    wanted = np.empty_like(elements)
    for wave, lane, i in np.ndindex(elements.shape):
        # Element i of a lane is row i, column lane; a row fills 16 / per_lane neighbouring lanes.
        flat = i * 16 + lane % 16
        wanted[wave, lane, i] = elements[wave, lane // 16 * 16 + flat // per_lane, flat % per_lane]
    np.testing.assert_array_equal(transpose(packed(elements), element_bits=bits), packed(wanted))


def test_transposing_reads_refuse_what_they_do_not_model(lds: Lds) -> None:
    zeros = np.zeros((4, LANES), np.uint32)
    with pytest.raises(ValueError, match="mask"):
        lds.load(named("ds_read_b64_tr_b16"), ALL, zeros, FULL & (np.arange(LANES) > 0))
    with pytest.raises(ValueError, match="element_bits"):
        lds.load(named("ds_read_b96_tr_b6"), ALL, zeros, FULL)


class Steps:
    """One-lane accesses of single waves, for races."""

    def __init__(self) -> None:
        self.lds = Lds(workgroup_of_wave=np.array([0, 0, 1, 1]), size=64)
        self.mask = np.zeros((1, 32), bool)
        self.mask[0, 0] = True

    def write(self, wave: int, address: int, value: int, kind: str = "b32") -> None:
        data = np.full((1, 1, 32), value, np.uint32)
        where = np.full((1, 32), address, np.uint32)
        self.lds.store(named(f"ds_write_{kind}"), np.array([wave]), where, self.mask, data)

    def read(self, wave: int, address: int, kind: str = "b32") -> None:
        where = np.full((1, 32), address, np.uint32)
        self.lds.load(named(f"ds_read_{kind}"), np.array([wave]), where, self.mask)

    def add(self, wave: int, address: int) -> None:
        where, ones = np.full((1, 32), address, np.uint32), np.ones((1, 1, 32), np.uint32)
        self.lds.atomic("add_u32", np.array([wave]), where, self.mask, ones)

    def barrier(self) -> None:
        self.lds.barrier([0, 1])

    def races(self) -> list[tuple[str, int, int]]:
        self.barrier()
        return [(race.kind, race.first_byte, race.num_bytes) for race in self.lds.races]


@pytest.mark.parametrize("writer_first", [False, True])
def test_a_read_and_a_write_of_two_waves_race(writer_first: bool) -> None:
    steps = Steps()
    if writer_first:
        steps.write(0, 8, 1)
        steps.read(1, 8)
    else:
        steps.read(1, 8)
        steps.write(0, 8, 1)
    assert steps.races() == [("read and write", 8, 4)]
    assert steps.lds.races[0].waves == (0, 1)
    assert "workgroup 0 after barrier 0" in str(steps.lds.races[0])


@pytest.mark.parametrize("writer_first", [False, True])
def test_a_barrier_between_them_orders_them(writer_first: bool) -> None:
    steps = Steps()
    first, second = (0, 1) if writer_first else (1, 0)
    for wave in (first, second):
        if wave == 0:
            steps.write(0, 8, 1)
        else:
            steps.read(1, 8)
        steps.barrier()
    assert steps.races() == []


def test_one_wave_never_races_with_itself() -> None:
    steps = Steps()
    steps.write(0, 8, 1)
    steps.read(0, 8)
    steps.write(0, 8, 2)
    steps.add(0, 8)
    steps.read(0, 8)
    assert steps.races() == []


def test_workgroups_do_not_race() -> None:
    steps = Steps()
    steps.write(0, 8, 1)
    steps.write(2, 8, 2)
    steps.read(2, 8)
    assert steps.races() == []


def test_neighbouring_bytes_are_no_race_and_shared_bytes_are() -> None:
    steps = Steps()
    steps.write(0, 8, 1, "b16")
    steps.write(1, 10, 2, "b16")
    steps.read(1, 11, "u8")
    assert steps.races() == []
    steps.write(0, 8, 1, "b32")
    steps.read(1, 11, "u8")
    assert steps.races() == [("read and write", 11, 1)]
    assert steps.lds.races[0].interval == 1


def test_equal_values_may_be_written_twice_and_different_ones_may_not() -> None:
    steps = Steps()
    steps.write(0, 8, 5)
    steps.write(1, 8, 5)
    steps.read(0, 8)
    assert steps.races() == []
    steps.write(0, 8, 5)
    steps.write(1, 8, 0x105)
    assert steps.races() == [("different values written", 9, 1)]


def test_lanes_of_one_instruction_must_not_write_different_values_to_one_place() -> None:
    lds = Lds(workgroup_of_wave=np.array([0, 0]), size=64)
    mask, where = np.ones((2, 32), bool), np.zeros((2, 32), np.uint32)
    data = np.full((1, 2, 32), 7, np.uint32)
    lds.store(named("ds_write_b32"), np.arange(2), where, mask, data)
    lds.barrier([0])
    assert lds.races == ()
    data[0, 1] = 8
    lds.store(named("ds_write_b32"), np.arange(2), where, mask, data)
    lds.barrier([0])
    assert [race.kind for race in lds.races] == ["different values written"]


def test_atomics_race_with_plain_accesses_of_other_waves_only() -> None:
    steps = Steps()
    steps.add(0, 8)
    steps.add(1, 8)
    assert steps.races() == []
    steps.read(1, 8)
    steps.add(0, 8)
    assert steps.races() == [("atomic and plain access", 8, 4)]
