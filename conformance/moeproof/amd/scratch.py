"""Scratch: memory that each lane has to itself, for the registers that a kernel spills.

Most GPUs reach it by instructions of its own. gfx90a reaches it by buffer instructions, behind the
private segment buffer, whose swizzle interleaves a wave's lanes dword by dword. Sources: LLVM
AMDGPU usage, "Private Segment Buffer"; CDNA2 ISA, "Swizzled Buffer Addressing"; the descriptor's
fields as ROCR-Runtime fills them in (``AqlQueue::FillBufRsrcWord1`` and ``FillBufRsrcWord3``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.code_object import KernelDescription
from moeproof.amd.memory import AddressSpace, Allocation, MemoryFault
from moeproof.amd.state import Array, Gang, Waves

STRIDE_AND_SWIZZLE = 1 << 31
"""Bits 16 to 31 of the private segment buffer's second dword: stride 0, swizzle enabled."""

# Its fourth dword: the components selected as they come, 32-bit unsigned integers, an element size
# of 4 bytes, an index stride of 64, and the lane's number for an index.
_COMPONENTS = 4 | 5 << 3 | 6 << 6 | 7 << 9
FORMAT = _COMPONENTS | 4 << 12 | 4 << 15 | 1 << 19 | 3 << 21 | 1 << 23
_ELEMENT_SIZE, _INDEX_STRIDE = 4, 64
_ROW = _ELEMENT_SIZE * _INDEX_STRIDE

_POISON = 0xFF


def bytes_of_wave(lanes: int, private_segment: int) -> int:
    """Scratch memory of one wave: whole dwords for each lane."""
    return lanes * ((private_segment + 3) // 4) * 4


def allocate_scratch(
    kernel: KernelDescription, memory: AddressSpace, waves: int
) -> Allocation | None:
    """Private memory of all lanes of some waves, poisoned; None if the kernel uses none."""
    if not kernel.private_segment:
        return None
    size = waves * bytes_of_wave(kernel.wavefront_size, kernel.private_segment)
    return memory.allocate("scratch", bytes([_POISON]) * size)


def private_segment_buffer(gang: Gang) -> Sequence[int]:
    """The four dwords of the buffer descriptor of a gang's scratch memory."""
    size = len(gang.workgroup) * bytes_of_wave(gang.lanes, gang.scratch_size)
    address = gang.scratch
    return (address & 0xFFFFFFFF, address >> 32 | STRIDE_AND_SWIZZLE, size, FORMAT)


def wave_offsets(waves: Waves) -> NDArray[np.int64]:
    """Where each wave's scratch memory begins in the gang's, in bytes, `(waves,)`."""
    gang = waves.gang
    return waves.index * bytes_of_wave(gang.lanes, gang.scratch_size)


def swizzled_addresses(
    waves: Waves, start: NDArray[np.uint64], offset: NDArray[np.int64], size: int, *, access: str
) -> NDArray[np.uint64]:
    """Addresses `(waves, lanes)` of the lanes' accesses behind the private segment buffer.

    Args:
        start: the descriptor's base and the instruction's scalar offset, `(waves, 1)`, which the
            swizzle leaves as they are.
        offset: of the instruction and its vector register, `(waves, lanes)`.
        size: bytes a lane.
        access: for the error, such as "load".

    Raises MemoryFault where an active lane leaves its own dword or its own scratch memory.
    """
    element, byte = offset // _ELEMENT_SIZE, offset % _ELEMENT_SIZE
    lane = np.arange(waves.lanes)
    swizzled = element * _ROW + lane * _ELEMENT_SIZE + byte
    addresses = start + swizzled.astype(np.uint64)
    # Where that is in the lane's own memory, whatever came in by the base and the scalar offset.
    first = waves.gang.scratch + wave_offsets(waves)[:, None] + lane * _ELEMENT_SIZE
    row, within = np.divmod(addresses.astype(np.int64) - first, _ROW)
    dword = Allocation("a lane's dword of swizzled scratch memory", 0, _ELEMENT_SIZE)
    _check(waves, within, size, access=access, own=dword)
    check_scratch(waves, row * _ELEMENT_SIZE + within, size, access=access)
    return addresses


def check_scratch(waves: Waves, offset: Array, size: int, *, access: str) -> None:
    """Raises MemoryFault where `size` bytes from an active lane's offset on are not all its own."""
    own = Allocation("scratch memory of a lane", 0, waves.gang.scratch_size)
    _check(waves, offset, size, access=access, own=own)


def _check(waves: Waves, offset: Array, size: int, *, access: str, own: Allocation) -> None:
    beyond = waves.full_mask() & ((offset < 0) | (offset + size > own.size))
    if beyond.any():
        lanes = [(int(wave), int(lane)) for wave, lane in np.argwhere(beyond)]
        first = int(offset[lanes[0]])
        raise MemoryFault(access, size, address=first, allocation=own, lanes=lanes)
