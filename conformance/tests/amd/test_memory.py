"""The emulator's address space: what it allows, what it moves, what it reports."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeproof.amd.memory import AddressSpace, MemoryFault

WAVES, LANES = 3, 32


@pytest.fixture
def space() -> AddressSpace:
    return AddressSpace()


def numbered(size: int) -> bytes:
    return bytes((7 * i + i // 251) % 256 for i in range(size))


@pytest.mark.parametrize("size", [1, 2, 4, 8, 12, 16, 32, 64])
@pytest.mark.parametrize("masked", [False, True])
def test_a_load_gives_each_lane_its_bytes(space: AddressSpace, size: int, masked: bool) -> None:
    contents = numbered(5000)
    allocation = space.allocate("x", contents)
    rng = np.random.default_rng(size)
    offsets = rng.integers(0, len(contents) - size + 1, (WAVES, LANES))
    mask = rng.random((WAVES, LANES)) < 0.5 if masked else None
    addresses = (allocation.address + offsets).astype(np.uint64)
    if mask is not None:
        addresses[~mask] = 12345
    loaded = space.load(addresses, mask, size=size)
    assert loaded.shape == (max(size // 4, 1), WAVES, LANES)
    assert loaded.dtype == np.uint32
    for wave in range(WAVES):
        for lane in range(LANES):
            got = b"".join(int(dword).to_bytes(4, "little") for dword in loaded[:, wave, lane])
            wanted = contents[offsets[wave, lane] :][:size]
            if mask is not None and not mask[wave, lane]:
                wanted = b""
            assert got == wanted.ljust(max(size, 4), b"\0")


@pytest.mark.parametrize("size", [1, 2, 4, 8, 12, 16])
@pytest.mark.parametrize("masked", [False, True])
def test_a_store_writes_each_lane_s_bytes_and_no_others(
    space: AddressSpace, size: int, masked: bool
) -> None:
    contents = numbered(WAVES * LANES * 24)
    allocation = space.allocate("x", contents)
    rng = np.random.default_rng(size)
    offsets = rng.permutation(WAVES * LANES).reshape(WAVES, LANES) * 24 + 3
    mask = rng.random((WAVES, LANES)) < 0.5 if masked else None
    data = rng.integers(0, 2**32, (max(size // 4, 1), WAVES, LANES), dtype=np.uint32)
    space.store((allocation.address + offsets).astype(np.uint64), mask, data, size=size)
    wanted = bytearray(contents)
    for wave in range(WAVES):
        for lane in range(LANES):
            if mask is None or mask[wave, lane]:
                value = b"".join(int(dword).to_bytes(4, "little") for dword in data[:, wave, lane])
                wanted[offsets[wave, lane] : offsets[wave, lane] + size] = value[:size]
    assert allocation.array is not None
    assert allocation.array.tobytes() == bytes(wanted)


def test_memory_of_the_process_is_reached_at_its_own_address(space: AddressSpace) -> None:
    values = np.arange(100, dtype=np.uint32)
    space.register("values", values.ctypes.data, values.nbytes)
    addresses = np.array([values.ctypes.data + 4 * 77], np.uint64)
    space.store(addresses, None, np.array([[5]], np.uint32), size=4)
    assert values[77] == 5
    assert space.load(addresses, None, size=4) == 5


@pytest.mark.parametrize("size", [1, 4, 16])
@pytest.mark.parametrize("access", ["load", "store"])
def test_one_byte_too_many_is_a_fault_that_names_the_place(
    space: AddressSpace, size: int, access: str
) -> None:
    allocation = space.allocate("weights", 256)
    addresses = np.full((WAVES, LANES), allocation.address, np.uint64)
    addresses[:] += np.uint64(256 - size)

    def touch() -> None:
        if access == "load":
            space.load(addresses, None, size=size)
        else:
            data = np.zeros((max(size // 4, 1), WAVES, LANES), np.uint32)
            space.store(addresses, None, data, size=size)

    touch()
    addresses[1, 7] += np.uint64(1)
    addresses[2, 3] += np.uint64(1)
    with pytest.raises(MemoryFault, match="'weights', which has 256 bytes") as caught:
        touch()
    assert caught.value.access == access
    assert caught.value.lanes == [(1, 7), (2, 3)]
    assert caught.value.allocation == allocation
    assert caught.value.address == allocation.address + 256 - size + 1


def test_the_last_byte_before_an_allocation_is_a_fault(space: AddressSpace) -> None:
    first = space.allocate("only", 64)
    with pytest.raises(MemoryFault, match="below every allocation"):
        space.load(np.array([first.address - 1], np.uint64), None, size=1)


def test_masked_lanes_are_named_by_their_own_index(space: AddressSpace) -> None:
    allocation = space.allocate("x", 64)
    addresses = np.full((2, 32), allocation.address, np.uint64)
    addresses[0, 0] = 1 << 60  # masked off: touches nothing
    addresses[1, 30] = allocation.end
    mask = np.ones((2, 32), bool)
    mask[0, 0] = False
    with pytest.raises(MemoryFault) as caught:
        space.load(addresses, mask, size=4)
    assert caught.value.lanes == [(1, 30)]


def test_lanes_may_spread_over_allocations_but_none_may_cross_a_gap(space: AddressSpace) -> None:
    memory = np.zeros(4096, np.uint8)
    low = space.register("low", memory.ctypes.data, 1000)
    high = space.register("high", memory.ctypes.data + 1004, 1000)
    both = np.array([low.address, high.end - 4], np.uint64)
    assert not space.load(both, None, size=4).any()
    with pytest.raises(MemoryFault, match="'low'"):
        space.load(np.array([low.end - 2, high.address], np.uint64), None, size=4)


def test_a_range_is_registered_once_and_never_overlaps(space: AddressSpace) -> None:
    memory = np.zeros(64, np.uint8)
    address = memory.ctypes.data
    first = space.register("a", address, 32)
    assert space.register("b", address, 32) is first
    space.register("next", address + 32, 32)
    for start, size in ((address + 8, 8), (address - 8, 16), (address, 33), (address + 31, 2)):
        with pytest.raises(ValueError, match="overlaps"):
            space.register("c", start, size)
    space.register("nothing", address + 4, 0)
    assert [allocation.name for allocation in space.allocations] == ["a", "next"]
    assert space.find(address + 31) is first
    assert space.find(address + 64) is None
    space.release(first)
    with pytest.raises(MemoryFault):
        space.load(np.array([address], np.uint64), None, size=4)


def test_no_address_outside_the_process_can_be_registered(space: AddressSpace) -> None:
    for address in (0, 1 << 47):
        with pytest.raises(ValueError, match="'x'"):
            space.register("x", address, 8)


def test_an_access_without_active_lanes_touches_nothing(space: AddressSpace) -> None:
    nothing = np.zeros((WAVES, LANES), bool)
    loaded = space.load(np.zeros((WAVES, LANES), np.uint64), nothing, size=16)
    assert loaded.shape == (4, WAVES, LANES)
    assert not loaded.any()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=64))
def test_a_fault_is_raised_exactly_for_lanes_outside(offsets: list[int]) -> None:
    space = AddressSpace()
    memory = np.zeros(64, np.uint8)
    for start, size in ((4, 8), (12, 4), (20, 9)):
        space.register(f"at {start}", memory.ctypes.data + start, size)
    addresses = np.array(offsets, np.uint64) + np.uint64(memory.ctypes.data)
    wrong = [
        i
        for i, offset in enumerate(offsets)
        if not any(s <= offset and offset + 4 <= s + n for s, n in ((4, 8), (12, 4), (20, 9)))
    ]
    if wrong:
        with pytest.raises(MemoryFault) as caught:
            space.load(addresses, None, size=4)
        assert caught.value.lanes == [(i,) for i in wrong]
    else:
        space.load(addresses, None, size=4)
