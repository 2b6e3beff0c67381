"""Lane moves against loops over lanes, written from the ISA manuals' words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeproof.amd import lanes

WAVES = 2


def values(num_lanes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2**32, (WAVES, num_lanes), dtype=np.uint32)


def masks(num_lanes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((WAVES, num_lanes)) < 0.6


# name -> (dpp_ctrl, lane, lanes -> source lane or None): the assembler's words, LLVM's
# AMDGPUModifierSyntax.
DPP: dict[str, tuple[int, Callable[[int, int], int | None]]] = {
    "quad_perm:[1,0,3,2]": (0b10110001, lambda i, n: i ^ 1),
    "quad_perm:[2,3,0,1]": (0b01001110, lambda i, n: i ^ 2),
    "quad_perm:[3,3,3,0]": (0b00111111, lambda i, n: i - i % 4 + [3, 3, 3, 0][i % 4]),
    "row_shl:1": (0x101, lambda i, n: i + 1 if i % 16 < 15 else None),
    "row_shl:8": (0x108, lambda i, n: i + 8 if i % 16 < 8 else None),
    "row_shr:1": (0x111, lambda i, n: i - 1 if i % 16 > 0 else None),
    "row_shr:15": (0x11F, lambda i, n: i - 15 if i % 16 == 15 else None),
    "row_ror:1": (0x121, lambda i, n: i - 1 if i % 16 else i + 15),
    "row_ror:8": (0x128, lambda i, n: i ^ 8),
    "wave_shl:1": (0x130, lambda i, n: i + 1 if i + 1 < n else None),
    "wave_rol:1": (0x134, lambda i, n: (i + 1) % n),
    "wave_shr:1": (0x138, lambda i, n: i - 1 if i else None),
    "wave_ror:1": (0x13C, lambda i, n: (i - 1) % n),
    "row_mirror": (0x140, lambda i, n: i ^ 15),
    "row_half_mirror": (0x141, lambda i, n: i ^ 7),
    "row_bcast:15": (0x142, lambda i, n: i // 16 * 16 - 1 if i >= 16 else None),
    "row_bcast:31": (0x143, lambda i, n: 31 if i >= 32 else None),
    "row_newbcast:5": (0x155, lambda i, n: i // 16 * 16 + 5),
    "row_xmask:6": (0x166, lambda i, n: i ^ 6),
}


@pytest.mark.parametrize("num_lanes", [32, 64])
@pytest.mark.parametrize("bound_control", [False, True])
@pytest.mark.parametrize("fetch_inactive", [False, True])
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("name", DPP)
def test_dpp(
    name: str, num_lanes: int, bound_control: bool, fetch_inactive: bool, partial: bool
) -> None:
    control, source_of = DPP[name]
    value = values(num_lanes)
    mask = masks(num_lanes) if partial else np.ones((WAVES, num_lanes), bool)
    row_mask, bank_mask = (0b1010, 0b1101) if partial else (15, 15)
    taken, written = lanes.moved(
        value,
        mask if partial else True,
        lanes.dpp_move(control, num_lanes),
        bound_control=bound_control,
        fetch_inactive=fetch_inactive,
        row_mask=row_mask,
        bank_mask=bank_mask,
    )
    written = np.broadcast_to(written, value.shape)
    for wave in range(WAVES):
        for lane in range(num_lanes):
            source = source_of(lane, num_lanes)
            missing = source is None or not (mask[wave, source] or fetch_inactive)
            allowed = row_mask >> lane // 16 & 1 and bank_mask >> lane % 16 // 4 & 1
            wanted = bool(mask[wave, lane] and allowed and (bound_control or not missing))
            assert written[wave, lane] == wanted
            if wanted:
                assert taken[wave, lane] == (0 if missing else value[wave, source])


@pytest.mark.parametrize("control", [0x100, 0x110, 0x120, 0x131, 0x144, 0x170, 0x1FF])
def test_reserved_controls_are_named(control: int) -> None:
    with pytest.raises(ValueError, match=f"{control:#x}"):
        lanes.dpp_move(control, 64)


def test_a_wave_s_sum_as_compilers_write_it_for_gfx9() -> None:
    """Adds through row_shr 1, 2, 4, 8 and both broadcasts: the sum is in lane 63."""
    value = np.arange(100, 164, dtype=np.uint32)[None]
    total = value.copy()
    for control, row_mask in (
        (0x111, 15),
        (0x112, 15),
        (0x114, 15),
        (0x118, 15),
        (0x142, 0xA),
        (0x143, 0xC),
    ):
        move = lanes.dpp_move(control, 64)
        taken, written = lanes.moved(total, True, move, bound_control=False, row_mask=row_mask)
        total = np.where(written, total + taken, total)
    assert total[0, 63] == value.sum()
    np.testing.assert_array_equal(total[0], np.cumsum(value[0]))


def test_a_wave_s_sum_as_compilers_write_it_for_rdna() -> None:
    """Adds through row_xmask 1, 2, 4, 8 and permlanex16: the sum is in every lane."""
    total = np.arange(100, 132, dtype=np.uint32)[None]
    wanted = total.sum()
    for control in (0x161, 0x162, 0x164, 0x168):
        taken, _ = lanes.moved(total, True, lanes.dpp_move(control, 32), bound_control=True)
        total = total + taken
    identity = np.uint32(0x76543210), np.uint32(0xFEDCBA98)
    taken, _ = lanes.permlane16(
        total, True, *identity, other_row=True, bound_control=False, fetch_inactive=True
    )
    np.testing.assert_array_equal(total + taken, np.full((1, 32), wanted))


@given(st.lists(st.integers(0, 7), min_size=8, max_size=8))
def test_dpp8(selects: list[int]) -> None:
    value = values(32)
    field = sum(select << 3 * i for i, select in enumerate(selects))
    taken, written = lanes.moved(value, True, lanes.dpp8_move(field, 32), bound_control=False)
    assert written is True
    for lane in range(32):
        assert taken[0, lane] == value[0, lane - lane % 8 + selects[lane % 8]]


@pytest.mark.parametrize("num_lanes", [32, 64])
@pytest.mark.parametrize("other_row", [False, True])
@pytest.mark.parametrize("bound_control", [False, True])
@pytest.mark.parametrize("fetch_inactive", [False, True])
def test_permlane16(
    num_lanes: int, other_row: bool, bound_control: bool, fetch_inactive: bool
) -> None:
    rng = np.random.default_rng(3)
    value, mask = values(num_lanes), masks(num_lanes)
    selects = rng.integers(0, 16, (WAVES, 16))
    words = [
        np.array([[sum(int(s) << 4 * i for i, s in enumerate(row[part]))] for row in selects])
        for part in (slice(8), slice(8, 16))
    ]
    taken, written = lanes.permlane16(
        value,
        mask,
        words[0].astype(np.uint32),
        words[1].astype(np.uint32),
        other_row=other_row,
        bound_control=bound_control,
        fetch_inactive=fetch_inactive,
    )
    for wave in range(WAVES):
        for lane in range(num_lanes):
            row = lane // 16 ^ int(other_row)
            source = row * 16 + selects[wave, lane % 16]
            missing = not (mask[wave, source] or fetch_inactive)
            wanted = bool(mask[wave, lane] and (bound_control or not missing))
            assert np.broadcast_to(written, value.shape)[wave, lane] == wanted
            if wanted:
                assert taken[wave, lane] == (0 if missing else value[wave, source])


@pytest.mark.parametrize("rows", [16, 32])
def test_permlane_swaps(rows: int) -> None:
    first, second = values(64, 1), values(64, 2)
    new_first, new_second = lanes.permlane_swap(first, second, True, rows=rows)
    wanted_first, wanted_second = first.copy(), second.copy()
    for start in range(0, 64, 2 * rows):
        for lane in range(start, start + rows):
            for wave in range(WAVES):
                wanted_second[wave, lane] = first[wave, lane + rows]
                wanted_first[wave, lane + rows] = second[wave, lane]
    np.testing.assert_array_equal(new_first, wanted_first)
    np.testing.assert_array_equal(new_second, wanted_second)
    with pytest.raises(ValueError, match="inactive"):
        lanes.permlane_swap(first, second, masks(64), rows=rows)


@pytest.mark.parametrize("num_lanes", [32, 64])
@pytest.mark.parametrize("partial", [False, True])
def test_permutes_through_addresses(num_lanes: int, partial: bool) -> None:
    rng = np.random.default_rng(4)
    value = values(num_lanes)
    mask = masks(num_lanes) if partial else np.ones((WAVES, num_lanes), bool)
    address = rng.integers(0, 2**32, (WAVES, num_lanes), dtype=np.uint32)
    address[:, ::3] = rng.integers(0, 8, address[:, ::3].shape) * 4  # some meet
    backward = lanes.bpermute(address, value, mask if partial else True, offset=8)
    forward = lanes.permute(address, value, mask if partial else True, offset=8)
    for wave in range(WAVES):
        pushed = [0] * num_lanes
        for lane in range(num_lanes):
            other = (int(address[wave, lane]) + 8) % 2**32 // 4 % num_lanes
            assert backward[wave, lane] == (value[wave, other] if mask[wave, other] else 0)
            if mask[wave, lane]:
                pushed[other] = int(value[wave, lane])
        assert forward[wave].tolist() == pushed


@pytest.mark.parametrize(
    ("offset", "source_of"),
    [
        (0x8000 | 0b00011011, lambda i: i ^ 3),
        (31 | 1 << 10, lambda i: i ^ 1),
        (31 | 16 << 10, lambda i: i ^ 16),
        (0b11000 | 5 << 5, lambda i: i & ~7 | 5),
        (0, lambda i: i & ~31),
    ],
)
def test_swizzles(offset: int, source_of: Callable[[int], int]) -> None:
    value, mask = values(64), masks(64)
    taken = lanes.swizzle(value, mask, offset=offset)
    for lane in range(64):
        source = source_of(lane)
        assert taken[1, lane] == (value[1, source] if mask[1, source] else 0)


def test_newer_swizzles_are_refused() -> None:
    for offset in (0xC001, 0xE000):
        with pytest.raises(ValueError, match=f"{offset:#x}"):
            lanes.swizzle(values(64), True, offset=offset)


def test_single_lanes() -> None:
    value = values(64)
    mask = np.zeros((WAVES, 64), bool)
    mask[0, [9, 40]] = True
    assert lanes.read_first_lane(value, mask).tolist() == [value[0, 9], value[1, 0]]
    assert lanes.read_first_lane(value, True).tolist() == value[:, 0].tolist()
    chosen = np.array([[3], [64 + 7]], np.uint32)
    assert lanes.read_lane(value, chosen).tolist() == [value[0, 3], value[1, 7]]
    assert lanes.read_lane(value, np.uint32(5)).tolist() == value[:, 5].tolist()
    written = lanes.write_lane(value, chosen, np.array([[1], [2]], np.uint32))
    wanted = value.copy()
    wanted[0, 3], wanted[1, 7] = 1, 2
    np.testing.assert_array_equal(written, wanted)
    assert value[0, 3] != 1
