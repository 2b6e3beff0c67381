"""The kernarg segment: what a kernel finds behind its argument pointer."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from moeproof.amd.code_object import KernelDescription

_INTEGER_FORMATS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}
_FLOAT_FORMATS = {2: "<e", 4: "<f", 8: "<d"}


def kernarg_segment(
    kernel: KernelDescription,
    arguments: bytes | Sequence[int | float],
    *,
    grid: tuple[int, int, int],
    workgroup_size: int,
) -> bytes:
    """The segment's bytes: the explicit arguments, and the hidden ones that the metadata lists.

    Arguments as bytes are taken as they are; otherwise there is one number for each, a pointer's
    being its address. Hidden arguments that Triton's kernels have no use for are zero.

    Raises ValueError when the arguments do not fit the metadata.
    """
    segment = bytearray(kernel.kernarg_segment)
    explicit = [argument for argument in kernel.arguments if not argument.hidden]
    if isinstance(arguments, bytes):
        if len(arguments) > len(segment):
            raise ValueError(f"arguments: {len(arguments)} bytes; the segment has {len(segment)}")
        segment[: len(arguments)] = arguments
    else:
        if len(arguments) > len(explicit):
            raise ValueError(f"arguments: {len(arguments)} given, {len(explicit)} declared")
        for argument, value in zip(explicit, arguments, strict=False):
            if isinstance(value, float):
                packed = struct.pack(_FLOAT_FORMATS[argument.size], value)
            else:
                packed = struct.pack(
                    _INTEGER_FORMATS[argument.size], value % (1 << 8 * argument.size)
                )
            segment[argument.offset : argument.offset + argument.size] = packed
    values = {
        "hidden_block_count_x": grid[0],
        "hidden_block_count_y": grid[1],
        "hidden_block_count_z": grid[2],
        "hidden_group_size_x": workgroup_size,
        "hidden_group_size_y": 1,
        "hidden_group_size_z": 1,
        "hidden_grid_dims": 3,
    }
    for argument in kernel.arguments:
        if argument.kind in values:
            packed = struct.pack(_INTEGER_FORMATS[argument.size], values[argument.kind])
            segment[argument.offset : argument.offset + argument.size] = packed
    return bytes(segment)
