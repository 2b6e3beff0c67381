"""Kernels that spill registers to scratch memory, against torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moeproof.amd.decoding import UnknownInstruction
from moeproof.amd.lds import Lds
from moeproof.amd.memory import AddressSpace, MemoryFault
from moeproof.amd.scratch import private_segment_buffer, wave_offsets
from moeproof.amd.state import EXEC, Gang, Waves

sys.path.insert(0, str(Path(__file__).parent))
from assembled import WAVES, assemble, execute_bytes, format_of, read


def product(kernels: Any, random_tensor: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The launch's figures, the product, and the exact one."""
    (kernel,) = kernels.code("matmul").kernels.values()
    assert kernel.private_segment > 0
    a = random_tensor(150, 70, dtype=torch.half)
    b = random_tensor(70, 100, dtype=torch.half, seed=1)
    c = torch.full((150, 100), torch.nan)
    arguments = {"a_ptr": a, "b_ptr": b, "c_ptr": c, "M": 150, "N": 100, "K": 70}
    figures = kernels.run("matmul", arguments, grid=(2, 2))
    return figures, c, a.double() @ b.double()


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201"])
def test_spilled_registers_come_back(
    kernels_of: Callable[..., Any], random_tensor: Any, arch: str
) -> None:
    figures, c, exact = product(kernels_of(arch, "spilling_kernels.py"), random_tensor)
    torch.testing.assert_close(c.double(), exact, rtol=2**-16, atol=2**-16)
    space = "buffer" if arch == "gfx90a" else "scratch"
    for access in (f"{space}_load", f"{space}_store"):
        assert any(name.startswith(access) for name in figures.opcodes)


BYTES_OF_LANE = 10  # no whole number of dwords
BUFFER, SCALAR, ADDRESS, DATA = 8, 20, 256 + 4, 256 + 5


@pytest.fixture
def spilling_waves() -> Waves:
    """Waves of gfx90a with scratch memory and its descriptor, as a kernel's prolog leaves it."""
    memory, workgroup = AddressSpace(), np.zeros(WAVES, np.int64)
    dwords = WAVES * 64 * 3
    scratch = memory.allocate("scratch", np.arange(dwords, dtype=np.uint32).tobytes())
    gang = Gang(
        memory=memory,
        lds=Lds(workgroup_of_wave=workgroup, size=16),
        workgroup=workgroup,
        lanes=64,
        code=0,
        scratch=scratch.address,
        scratch_size=BYTES_OF_LANE,
    )
    waves = Waves.poisoned(gang, num_vectors=16)
    waves.scalar[:, BUFFER : BUFFER + 4] = private_segment_buffer(gang)
    waves.u64[BUFFER][:, 0] += wave_offsets(waves).astype(np.uint64)
    waves.scalar[:, SCALAR] = 0
    return waves


def test_the_descriptor_of_the_private_segment_buffer(spilling_waves: Waves) -> None:
    """The words that ROCR-Runtime writes for a GPU before gfx10."""
    gang = spilling_waves.gang
    low, high, size, form = private_segment_buffer(gang)
    assert low | (high & 0xFFFF) << 32 == gang.scratch
    assert high >> 16 == 0x8000
    assert size == WAVES * 64 * 12
    assert form == 0x00EA4FAC


def access_scratch(
    waves: Waves, name: str = "buffer_load_dword", *, arch: str = "gfx90a", **operands: int
) -> None:
    known = format_of("cdna", "MUBUF", name)
    fields = {"vaddr": ADDRESS, "vdata": DATA, "srsrc": BUFFER >> 2, "soffset": SCALAR} | operands
    image = assemble(known, name, **{k: v & 0xFF for k, v in fields.items()})
    execute_bytes(image, waves, arch=arch)


def swizzled(wave: int, lane: int, offset: int, scalar: int) -> int:
    """Byte of the waves' scratch memory: CDNA2 ISA, "Swizzled Buffer Addressing"."""
    index_stride, element_size, stride = 64, 4, 0
    index_msb, index_lsb = lane // index_stride, lane % index_stride
    offset_msb, offset_lsb = offset // element_size, offset % element_size
    buffer_offset = (
        (index_msb * stride + offset_msb * element_size) * index_stride
        + index_lsb * element_size
        + offset_lsb
    )
    return wave * 64 * 12 + scalar + buffer_offset


@pytest.mark.parametrize(("constant", "scalar"), [(0, 0), (4, 0), (5, 0), (0, 256), (1, 256)])
def test_the_buffer_of_gfx90a_interleaves_the_lanes(
    spilling_waves: Waves, constant: int, scalar: int
) -> None:
    waves = spilling_waves
    memory = waves.gang.memory.contents(waves.gang.memory.allocations[0])
    before = memory.copy()
    waves.scalar[:, SCALAR] = scalar
    own = np.arange(64) % 2 * 4
    waves.u32[ADDRESS][...] = own
    value = np.arange(WAVES * 64).reshape(WAVES, 64) % 251
    waves.u32[DATA][...] = value
    access_scratch(waves, "buffer_store_byte", offset=constant, offen=1)
    expected = before.copy()
    for wave in range(WAVES):
        for lane in range(64):
            offset = int(own[lane]) + constant
            expected[swizzled(wave, lane, offset, scalar)] = value[wave, lane]
    np.testing.assert_array_equal(memory, expected)
    waves.u32[DATA][...] = 0
    access_scratch(waves, "buffer_load_ubyte", offset=constant, offen=1)
    np.testing.assert_array_equal(waves.u32[DATA], value)


def test_the_last_bytes_of_a_lane_are_its_own(spilling_waves: Waves) -> None:
    access_scratch(spilling_waves, "buffer_load_ushort", offset=BYTES_OF_LANE - 2)
    low = [swizzled(wave, lane, 8, 0) // 4 for wave in range(WAVES) for lane in range(64)]
    assert read(spilling_waves, DATA, 32, scalar=False) == low


@pytest.mark.parametrize(
    ("name", "offset", "scalar", "message"),
    [
        ("buffer_load_dword", 8, 0, "load of 4 .* byte 8 of 'scratch memory of a lane', .* 10 "),
        ("buffer_store_dword", 8, 0, "store of 4 .* byte 8 of 'scratch memory of a lane'"),
        ("buffer_load_ubyte", 0, 3 * 256, "byte 12 of 'scratch memory of a lane'"),
        ("buffer_load_dword", 2, 0, 'byte 2 of "a lane\'s dword of swizzled scratch memory"'),
        ("buffer_load_dwordx2", 0, 0, "load of 8 .* byte 0 of \"a lane's dword"),
        ("buffer_load_dword", 0, 4, "byte 4 of \"a lane's dword"),
        ("buffer_atomic_add", 8, 0, "atomic of 4 .* byte 8 of 'scratch memory of a lane'"),
    ],
)
def test_outside_of_a_lanes_scratch_is_a_fault(
    spilling_waves: Waves, name: str, offset: int, scalar: int, message: str
) -> None:
    spilling_waves.i32[SCALAR][...] = scalar
    with pytest.raises(MemoryFault, match=message):
        access_scratch(spilling_waves, name, offset=offset)


def test_the_scratch_of_the_wave_before_is_a_fault(spilling_waves: Waves) -> None:
    spilling_waves.u64[BUFFER][...] -= np.uint64(256)
    with pytest.raises(MemoryFault, match="byte -4 of 'scratch memory of a lane'"):
        access_scratch(spilling_waves)


def test_an_inactive_lane_may_point_anywhere(spilling_waves: Waves) -> None:
    waves = spilling_waves
    waves.u32[ADDRESS][...] = np.where(np.arange(64) == 5, 4096, 4)
    waves.u64[EXEC][...] = ~np.uint64(1 << 5)
    waves.refresh_mask()
    access_scratch(waves, offen=1)
    own = waves.u32[DATA][:, 0]
    assert own.tolist() == [swizzled(wave, 0, 4, 0) // 4 for wave in range(WAVES)]


@pytest.mark.parametrize(
    ("dword", "bit"), [(1, 16), (1, 30), (3, 19), (3, 21), (3, 23)], ids=lambda value: str(value)
)
def test_another_buffer_with_a_stride_is_refused(
    spilling_waves: Waves, dword: int, bit: int
) -> None:
    """A stride, a cache swizzle, another element size or index stride, no lane number."""
    spilling_waves.scalar[:, BUFFER + dword] ^= np.uint32(1 << bit)
    with pytest.raises(UnknownInstruction, match=r"buffer_load_dword .*: a buffer with a stride"):
        access_scratch(spilling_waves)


def test_only_gfx90a_has_that_buffer(spilling_waves: Waves) -> None:
    with pytest.raises(UnknownInstruction, match=r"buffer_load_dword .*: a buffer with a stride"):
        access_scratch(spilling_waves, arch="gfx942")
