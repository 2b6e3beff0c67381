"""Names of loads and stores, and what they do to registers."""

from __future__ import annotations

import numpy as np
import pytest

from moeproof.amd.transfers import Transfer, transfer_of


@pytest.mark.parametrize(
    ("mnemonic", "transfer"),
    [
        ("global_load_dwordx4", Transfer(store=False, size=16)),
        ("global_load_b96", Transfer(store=False, size=12)),
        ("buffer_store_dword", Transfer(store=True, size=4)),
        ("buffer_load_sbyte", Transfer(store=False, size=1, signed=True)),
        ("buffer_load_ushort", Transfer(store=False, size=2)),
        ("global_load_i8", Transfer(store=False, size=1, signed=True)),
        ("global_store_byte_d16_hi", Transfer(store=True, size=1, half="high")),
        ("global_store_d16_hi_b8", Transfer(store=True, size=1, half="high")),
        ("global_load_short_d16", Transfer(store=False, size=2, half="low")),
        ("global_load_d16_hi_b16", Transfer(store=False, size=2, half="high")),
        ("global_load_sbyte_d16_hi", Transfer(store=False, size=1, signed=True, half="high")),
        ("global_load_d16_i8", Transfer(store=False, size=1, signed=True, half="low")),
        ("scratch_store_b16", Transfer(store=True, size=2)),
        ("scratch_load_dwordx2", Transfer(store=False, size=8)),
        ("global_load_lds_dwordx4", Transfer(store=False, size=16)),
        ("ds_read_b128", Transfer(store=False, size=16)),
        ("ds_load_b32", Transfer(store=False, size=4)),
        ("ds_read_u8", Transfer(store=False, size=1)),
        ("ds_read_i16", Transfer(store=False, size=2, signed=True)),
        ("ds_load_u16_d16_hi", Transfer(store=False, size=2, half="high")),
        ("ds_read_i8_d16", Transfer(store=False, size=1, signed=True, half="low")),
        ("ds_write_b16_d16_hi", Transfer(store=True, size=2, half="high")),
        ("ds_store_b8", Transfer(store=True, size=1)),
        ("ds_read2_b32", Transfer(store=False, size=4, two_addresses=True, offset_unit=4)),
        ("ds_read2st64_b64", Transfer(store=False, size=8, two_addresses=True, offset_unit=512)),
        ("ds_load_2addr_b64", Transfer(store=False, size=8, two_addresses=True, offset_unit=8)),
        (
            "ds_store_2addr_stride64_b32",
            Transfer(store=True, size=4, two_addresses=True, offset_unit=256),
        ),
        ("ds_read_b64_tr_b16", Transfer(store=False, size=8, transposed=16)),
        ("ds_read_b64_tr_b8", Transfer(store=False, size=8, transposed=8)),
        ("ds_read_b96_tr_b6", Transfer(store=False, size=12, transposed=6)),
        ("global_atomic_add", None),
        ("ds_add_u32", None),
        ("ds_bpermute_b32", None),
        ("buffer_load_format_x", None),
        ("buffer_gl0_inv", None),
        ("s_load_dwordx4", None),
        ("global_load_tr_b128_w32", None),
    ],
)
def test_every_generation_s_names_are_read(mnemonic: str, transfer: Transfer | None) -> None:
    assert transfer_of(mnemonic) == transfer


@pytest.mark.parametrize(
    ("mnemonic", "value", "old", "register"),
    [
        ("global_load_ubyte", 0xFE, 0x12345678, 0x000000FE),
        ("global_load_sbyte", 0xFE, 0x12345678, 0xFFFFFFFE),
        ("global_load_sshort", 0x7FFF, 0x12345678, 0x00007FFF),
        ("ds_read_i16", 0x8000, 0x12345678, 0xFFFF8000),
        ("global_load_short_d16", 0xABCD, 0x12345678, 0x1234ABCD),
        ("global_load_short_d16_hi", 0xABCD, 0x12345678, 0xABCD5678),
        ("global_load_ubyte_d16", 0xCD, 0x12345678, 0x123400CD),
        ("global_load_sbyte_d16", 0xCD, 0x12345678, 0x1234FFCD),
        ("global_load_sbyte_d16_hi", 0xCD, 0x12345678, 0xFFCD5678),
        ("ds_load_u8_d16_hi", 0xCD, 0x12345678, 0x00CD5678),
    ],
)
def test_what_a_register_holds_after_a_load(
    mnemonic: str, value: int, old: int, register: int
) -> None:
    transfer = transfer_of(mnemonic)
    assert transfer is not None
    shape = (1, 2, 32)
    got = transfer.loaded(np.full(shape, value, np.uint32), np.full(shape, old, np.uint32))
    assert got.dtype == np.uint32
    np.testing.assert_array_equal(got, np.full(shape, register))


def test_half_a_register_needs_the_other_half() -> None:
    transfer = transfer_of("ds_read_u16_d16")
    assert transfer is not None
    with pytest.raises(ValueError, match="old"):
        transfer.loaded(np.zeros((1, 1, 32), np.uint32))


def test_registers_of_a_transfer() -> None:
    for mnemonic, dwords in (("ds_read2_b64", 4), ("ds_read_u8", 1), ("global_load_b96", 3)):
        transfer = transfer_of(mnemonic)
        assert transfer is not None
        assert transfer.dwords == dwords


def test_a_high_store_gives_the_high_half() -> None:
    transfer = transfer_of("ds_write_b16_d16_hi")
    assert transfer is not None
    assert transfer.stored(np.array([0x1234ABCD], np.uint32)).tolist() == [0x1234]
