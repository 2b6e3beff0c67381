"""What the hardware allows, measured in the same run: launches that only read, dense products."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import triton
import triton.language as tl

from moe_dispatch.sizes import cdiv
from moe_dispatch.target import device_type
from moe_dispatch_bench.timing import Call, seconds_in_turns
from moe_dispatch_bench.workload import Shape

_BLOCK = 4096
"""Elements of int32 a program reads at a time: with 8 warps four 16-byte loads a thread, all of
them on their way before the first is needed. Memory at its full rate on an H200 (4.6 TB/s, some
700 ns, 132 SMs) has 24 KB an SM on their way; two programs an SM have 32."""

_BLOCK_BYTES = 4 * _BLOCK
_SOURCE_BLOCKS = 2**32 // _BLOCK_BYTES
_SMALL_BYTES = 2**26
_PROGRAMS_PER_PROCESSOR = (2, 4, 6)


@triton.jit(do_not_specialize=["first_block", "num_blocks"])
def read_kernel(
    source_ptr,
    negative_ptr,
    first_block,
    num_blocks,
    BLOCK: tl.constexpr,
    SOURCE_BLOCKS: tl.constexpr,
):
    """Read num_blocks blocks of source (SOURCE_BLOCKS * BLOCK,) int32, round and round.

    Neighbouring programs read neighbouring blocks. A program's sums go to negative (programs,
    BLOCK) where they are negative. In a source without a sign none is: nothing is stored, and no
    compiler can leave a load out.
    """
    program = tl.program_id(0)
    elements = tl.arange(0, BLOCK)
    sums = tl.zeros((BLOCK,), dtype=tl.int32)
    for block in range(program, num_blocks, tl.num_programs(0)):
        sums += tl.load(source_ptr + (first_block + block) % SOURCE_BLOCKS * BLOCK + elements)
    tl.store(negative_ptr + program * BLOCK + elements, sums, mask=sums < 0)


class Reader:
    """Launches that only read, from a buffer of 4 GiB.

    bandwidth: bytes per second of a launch that reads all of it.
    """

    def __init__(self) -> None:
        shape = (_SOURCE_BLOCKS, _BLOCK)
        self._source = torch.randint(0, 100, shape, dtype=torch.int32, device=device_type())
        processors = torch.cuda.get_device_properties().multi_processor_count
        programs = [each * processors for each in _PROGRAMS_PER_PROCESSOR]
        self._negative = torch.empty(
            (programs[-1], _BLOCK), dtype=torch.int32, device=device_type()
        )
        # Few bytes are over before many programs have started; few programs have less on its way.
        seconds = seconds_in_turns(
            {count: self._calls([_SMALL_BYTES] * 8, count) for count in programs}
        )
        self._programs = min(seconds, key=seconds.__getitem__)
        read_all = self.calls([self._source.nbytes])
        self.bandwidth = self._source.nbytes / seconds_in_turns({"read": read_all})["read"]

    def calls(self, sizes: Sequence[int]) -> list[Call]:
        """One launch for each number of bytes; each reads on where the one before it stopped."""
        return self._calls(sizes, self._programs)

    def _calls(self, sizes: Sequence[int], most_programs: int) -> list[Call]:
        calls: list[Call] = []
        first_block = 0
        for size in sizes:
            blocks = cdiv(size, _BLOCK_BYTES)
            # As few programs as read as many blocks each: the last ones would be on their own.
            programs = cdiv(blocks, cdiv(blocks, most_programs))
            calls.append(partial(self._read, first_block % _SOURCE_BLOCKS, blocks, programs))
            first_block += blocks
        return calls

    def _read(self, first_block: int, num_blocks: int, programs: int) -> None:
        read_kernel[(programs,)](
            self._source,
            self._negative,
            first_block,
            num_blocks,
            BLOCK=_BLOCK,
            SOURCE_BLOCKS=_SOURCE_BLOCKS,
            num_warps=8,
        )


def dense_call(shape: Shape, slots: int, dtype: torch.dtype) -> Call:
    """The library's two dense products with the FLOPs of ``slots`` routed rows."""

    def random(rows: int, columns: int) -> torch.Tensor:
        return torch.randn((rows, columns), device=device_type()).to(dtype)

    x, h = random(slots, shape.hidden_size), random(slots, shape.intermediate_size)
    gate_up = random(2 * shape.intermediate_size, shape.hidden_size)
    down = random(shape.hidden_size, shape.intermediate_size)
    return lambda: (x @ gate_up.T, h @ down.T)
