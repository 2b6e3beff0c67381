"""What a load or store moves between memory and registers: how many bytes, and into which half.

The same for global, buffer, scratch and LDS instructions. Every generation has names of its own
(``global_load_sbyte_d16_hi``, ``global_load_d16_hi_i8``, ``ds_read_i8_d16_hi``); ``transfer_of``
reads them all. Sources: CDNA3 ISA manual sections 12.13 and 12.15, RDNA3 sections 16.15 to 16.18.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Dwords = NDArray[np.uint32]


@dataclass(frozen=True)
class Transfer:
    """One value a lane.

    Attributes:
        store: to memory, not from it.
        size: bytes: 1, 2, 4, 8, 12 or 16.
        signed: a loaded byte or half-word is sign-extended.
        half: None for whole registers; "low" or "high" for the half of the register that takes
            a loaded value (the other half keeps its bits) or gives the stored one.
        two_addresses: LDS: two values, the second at an offset of its own.
        offset_unit: LDS: bytes that one step of an instruction's offset stands for.
        transposed: LDS: element size in bits of a transposing read, else None.
    """

    store: bool
    size: int
    signed: bool = False
    half: str | None = None
    two_addresses: bool = False
    offset_unit: int = 1
    transposed: int | None = None

    @property
    def dwords(self) -> int:
        """Registers a lane."""
        return max(self.size // 4, 1) * (2 if self.two_addresses else 1)

    def loaded(self, value: Dwords, old: Dwords | None = None) -> Dwords:
        """What the registers hold after a load.

        Args:
            value: as loaded, zero-extended, ``(dwords, ...)``.
            old: the registers before, ``(dwords, ...)``; needed for a half only.
        """
        if self.signed:
            narrow = np.int8 if self.size == 1 else np.int16
            value = value.astype(narrow).astype(np.int32).view(np.uint32)
        if self.half is None:
            return value
        if old is None:
            raise ValueError("old: a load into half a register needs the register before")
        if self.half == "high":
            return (value << np.uint32(16)) | (old & np.uint32(0xFFFF))
        return (value & np.uint32(0xFFFF)) | (old & np.uint32(0xFFFF0000))

    def stored(self, registers: Dwords) -> Dwords:
        """The value whose low ``size`` bytes go to memory."""
        return registers >> np.uint32(16) if self.half == "high" else registers


_WORDS = {
    "dword": (4, False),
    "dwordx2": (8, False),
    "dwordx3": (12, False),
    "dwordx4": (16, False),
    "ubyte": (1, False),
    "sbyte": (1, True),
    "byte": (1, False),
    "ushort": (2, False),
    "sshort": (2, True),
    "short": (2, False),
}
_BITS = {f"{letter}{bits}": (bits // 8, letter == "i") for letter in "uib" for bits in (8, 16)}
_BITS |= {f"b{bits}": (bits // 8, False) for bits in (32, 64, 96, 128)}
_NAME = re.compile(
    r"(?P<space>global|flat|scratch|buffer|ds)_(?P<way>load|read|store|write)"
    r"(?:_lds)?(?P<two>(?:2|_2addr)(?P<wide>st64|_stride64)?)?"
    r"(?P<first_half>_d16(?:_hi)?)?_(?P<kind>[a-z]*\d*(?:x\d)?)"
    r"(?P<transposed>(?<=_b64|_b96)_tr_b(?P<element>\d+))?(?P<last_half>_d16(?:_hi)?)?"
)


@cache
def transfer_of(mnemonic: str) -> Transfer | None:
    """The transfer of an instruction such as ``buffer_load_dwordx4`` or ``ds_read2st64_b64``.

    None where the mnemonic is no plain load or store: atomics, formatted buffers, permutes.
    """
    match = _NAME.fullmatch(mnemonic.lower())
    if match is None:
        return None
    kinds = _WORDS if match["kind"] in _WORDS else _BITS
    if match["kind"] not in kinds:
        return None
    size, signed = kinds[match["kind"]]
    store = match["way"] in ("store", "write")
    half = match["first_half"] or match["last_half"]
    return Transfer(
        store=store,
        size=size,
        signed=signed and not store,
        half=None if half is None else "high" if half.endswith("_hi") else "low",
        two_addresses=match["two"] is not None,
        offset_unit=(size if match["two"] else 1) * (64 if match["wide"] else 1),
        transposed=int(match["element"]) if match["element"] else None,
    )
