"""Single instructions, assembled from the tables of formats and executed on waves of our making."""

from __future__ import annotations

import numpy as np

from moeproof.amd.code_object import CodeObject
from moeproof.amd.decoding import decode, family_of
from moeproof.amd.instruction_formats import Format, formats_of
from moeproof.amd.lds import Lds
from moeproof.amd.memory import AddressSpace
from moeproof.amd.operands import Target
from moeproof.amd.state import Gang, Waves
from moeproof.amd.translate import step_of

ARCHITECTURES = {"cdna": "gfx942", "rdna3": "gfx1100", "rdna4": "gfx1201"}
WAVES = 4


def format_of(family: str, encoding: str, name: str) -> Format:
    return next(
        known
        for known in formats_of(family)
        if known.encoding == encoding and known.number_of(name) is not None
    )


def assemble(known: Format, name: str, **operands: int) -> bytes:
    """The instruction's bytes; registers by number, as the fields hold them."""
    number = known.number_of(name)
    assert number is not None
    _, raw = known.fixed
    fields = dict(known.definition._fields)
    raw |= number << fields["op"].lo
    for field, value in operands.items():
        if field in fields:
            raw |= value << fields[field].lo
    return raw.to_bytes(known.size, "little")


def waves_of(lanes: int) -> Waves:
    workgroup = np.zeros(WAVES, np.int64)
    gang = Gang(
        memory=AddressSpace(),
        lds=Lds(workgroup_of_wave=workgroup, size=16),
        workgroup=workgroup,
        lanes=lanes,
        code=0,
        scratch=0,
        scratch_size=0,
    )
    return Waves.poisoned(gang, num_vectors=16)


def execute(
    known: Format,
    name: str,
    waves: Waves,
    *,
    arch: str,
    accumulator_offset: int = 0,
    **operands: int,
) -> None:
    """Assembles, decodes and executes one instruction."""
    image = assemble(known, name, **operands)
    execute_bytes(image, waves, arch=arch, accumulator_offset=accumulator_offset)


def execute_bytes(image: bytes, waves: Waves, *, arch: str, accumulator_offset: int = 0) -> None:
    code = CodeObject(arch=arch, image=image, text=range(len(image)), kernels={})
    target = Target(arch, family_of(arch), waves.lanes, accumulator_offset)
    step = step_of(decode(code, 0), target)
    assert step is not None
    with np.errstate(all="ignore"):  # as the scheduler does
        step(waves)


def write(waves: Waves, register: int, values: list[int]) -> None:
    for part in range(2):
        words = np.array([value >> 32 * part & 0xFFFFFFFF for value in values], np.uint32)
        waves.u32[register + part][...] = words.reshape(WAVES, -1)


def read(waves: Waves, register: int, width: int, *, scalar: bool) -> list[int]:
    low = [int(v) for v in waves.u32[register].reshape(-1)]
    if width == 64:
        high = [int(v) for v in waves.u32[register + 1].reshape(-1)]
        return [a | b << 32 for a, b in zip(low, high, strict=True)]
    return [value & (1 << width) - 1 for value in low]
