"""Each scalar and vector ALU instruction of `opcode_vectors`, in every format that encodes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moeproof.amd.instruction_formats import Format, formats_of
from moeproof.amd.state import FIRST_VECTOR, VCC, Waves

sys.path.insert(0, str(Path(__file__).parent))
from assembled import ARCHITECTURES, WAVES, execute, format_of, read, waves_of, write
from opcode_vectors import VECTORS, Vector

_FORMATS = ("VOP1", "VOP2", "VOPC", "VOP3", "VOP3SD", "VOP3_SDST", "SOP1", "SOP2", "SOPC")
_INTEGERS = (0, 1, 2, 31, 32, 63, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_FLOATS = (0.0, -0.0, 1.0, -1.5, 3.0, 1e-40, -1e-40, 3e38, np.inf, -np.inf, np.nan, 2.0**-126)


def encodings() -> Iterator[tuple[str, str, str]]:
    """Family, format and name of everything to be tested."""
    for family, name in product(ARCHITECTURES, sorted(VECTORS)):
        for known in formats_of(family):
            if known.encoding in _FORMATS and known.number_of(name) is not None:
                yield family, known.encoding, name


def drawn(vector: Vector, count: int) -> list[list[int]]:
    """Bit patterns of each source: every pair of special values at least once, then random ones."""
    rng = np.random.default_rng(1)
    special = [int(np.float32(x).view(np.uint32)) for x in _FLOATS] if vector.kinds else _INTEGERS
    columns = []
    for position, width in enumerate(vector.widths):
        if vector.kinds:
            random = rng.standard_normal(count) * 10.0 ** rng.integers(-20, 20, count)
            values = [int(bits) for bits in random.astype(np.float32).view(np.uint32)]
        else:
            values = [int(bits) for bits in rng.integers(0, 1 << 63, count, np.uint64) * 2 + 1]
        for index in range(min(count // 2, len(special) ** 2)):
            row, column = divmod(index, len(special))
            values[index] = special[(row, column, (row + column) % len(special))[position]]
        columns.append([value & (1 << width) - 1 for value in values])
    return columns


@pytest.mark.parametrize(("family", "encoding", "name"), list(encodings()))
def test_opcode(family: str, encoding: str, name: str) -> None:
    vector = VECTORS[name]
    arch = ARCHITECTURES[family]
    lanes = 64 if family == "cdna" else 32
    known = format_of(family, encoding, name)
    scalar = encoding.startswith("SOP") or name.startswith("v_s_")
    waves = waves_of(lanes)
    count = WAVES * (1 if scalar else lanes)
    rounds = 60 if scalar else 1
    for attempt in range(rounds):
        columns = [c[attempt * count :][:count] for c in drawn(vector, count * rounds)]
        check(known, arch, name, vector, waves, columns, scalar=scalar)


def check(
    known: Format,
    arch: str,
    name: str,
    vector: Vector,
    waves: Waves,
    columns: list[list[int]],
    *,
    scalar: bool,
) -> None:
    count = len(columns[0])
    bits_in = np.random.default_rng(2).integers(0, 2, count).astype(bool)
    first = 0 if scalar else FIRST_VECTOR
    registers = [first + 2 * index for index in range(len(columns))]
    result = first + 8
    if vector.accumulates:
        registers[2] = result
    for register, column in zip(registers, columns, strict=True):
        write(waves, register, column)
    mask_in, mask_out = (VCC, VCC) if known.encoding in ("VOP2", "VOPC") else (10, 12)
    if scalar:
        waves.scc[:, 0] = bits_in
    else:
        waves.set_bools(mask_in, bits_in.reshape(WAVES, -1))
    field = dict(known.definition._fields)
    operands = {"sdst": mask_out if not scalar else result, "src2": mask_in}
    for index, register in enumerate(registers):
        for prefix in ("src", "ssrc", "vsrc"):
            name_of = f"{prefix}{index}"
            if name_of in field:
                narrow = field[name_of].mask < 0x1FF
                operands[name_of] = register - FIRST_VECTOR if narrow and not scalar else register
    operands["vdst"] = result - first if not scalar else result
    if vector.result is None:
        operands["vdst"] = mask_out
    with np.errstate(all="ignore"):
        execute(known, name, waves, arch=arch, **operands)
        expected = list(expectations(vector, columns, bits_in, scalar=scalar))
    if vector.result is not None:
        got = read(waves, result, vector.width, scalar=scalar)
        for have, want, row in zip(got, expected, zip(*columns, strict=True), strict=True):
            assert same(have, want[0], vector), (name, *map(hex, (*row, have, want[0])))
    if vector.scc is not None:
        assert [int(b) for b in waves.scc[:, 0]] == [int(want[1]) for want in expected]
    if vector.carry is not None:
        found = waves.bools(mask_out).reshape(-1)
        assert [int(b) for b in found] == [int(want[2]) for want in expected]


def expectations(
    vector: Vector, columns: list[list[int]], bits_in: Any, *, scalar: bool
) -> Iterator[tuple[int, bool, bool]]:
    def call(function: Any, row: tuple[int, ...], bit: int) -> Any:
        takes_bit = function.__code__.co_argcount - len(function.__defaults__ or ()) > len(row)
        return function(*row, bit) if takes_bit else function(*row)

    for row, bit in zip(zip(*columns, strict=True), bits_in, strict=True):
        parts = [
            0 if f is None else call(f, row, int(bit)) if hasattr(f, "__code__") else f(*row)
            for f in (vector.result, vector.scc, vector.carry)
        ]
        yield parts[0], parts[1], parts[2]


def same(have: int, want: int, vector: Vector) -> bool:
    if not vector.kinds or vector.width == 0:
        return have == want
    a, b = np.uint32(have).view(np.float32), np.uint32(want).view(np.float32)
    if np.isnan(a) or np.isnan(b):
        return bool(np.isnan(a) and np.isnan(b))
    return abs(int(a.view(np.int32)) - int(b.view(np.int32))) <= vector.ulps
