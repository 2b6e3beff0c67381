"""Placed tensors hold their values, lie as their layout says, and notice every write."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from moeproof.case import Layout, UnwrittenMemory
from moeproof.layout import GUARD_ELEMENTS, place, to_array, to_tensor
from moeproof.poison import PoisonedAllocations

CPU = torch.device("cpu")
SHAPES = [(5, 7), (3, 4, 6), (1, 1), (0, 4), (2, 3)]
DTYPES = [ml_dtypes.bfloat16, np.float16, np.float32, np.int32]


def values(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) - 3).astype(dtype)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_survive_every_layout(layout: Layout, dtype: type) -> None:
    for shape in SHAPES:
        array = values(shape, dtype)
        placed = place(array, layout=layout, device=CPU)
        assert to_array(placed.tensor).tobytes() == array.tobytes()
        assert placed.changed() is None


def test_a_reversed_row_is_placed() -> None:
    array = values((1, 4), np.float32)[::-1]
    assert to_tensor(array).tolist() == array.tolist()
    assert to_tensor(np.ascontiguousarray(array)).tolist() == array.tolist()


def test_layouts_lie_as_they_say() -> None:
    array = values((3, 4, 6), np.float32)

    def strides(layout: Layout) -> tuple[int, ...]:
        return place(array, layout=layout, device=CPU).tensor.stride()

    assert strides(Layout.CONTIGUOUS) == (24, 6, 1)
    assert place(array, layout=Layout.CONTIGUOUS, device=CPU).tensor.data_ptr() % 64 == 0
    assert place(array, layout=Layout.OFFSET, device=CPU).tensor.data_ptr() % 16 != 0
    assert strides(Layout.ROW_PADDED) == (44, 11, 1)
    assert strides(Layout.TRANSPOSED) == (24, 1, 4)
    assert strides(Layout.FAR_APART)[0] * 2 > 2**31


@pytest.mark.parametrize("layout", [Layout.CONTIGUOUS, Layout.OFFSET, Layout.ROW_PADDED])
def test_a_write_to_the_values_is_noticed(layout: Layout) -> None:
    placed = place(values((3, 4), np.float16), layout=layout, device=CPU)
    placed.tensor[2, 1] = 9
    assert placed.changed() == "values"


@pytest.mark.parametrize("offset", [GUARD_ELEMENTS - 1, GUARD_ELEMENTS + 12, 4 + GUARD_ELEMENTS])
def test_a_write_around_the_values_is_noticed(offset: int) -> None:
    layout = Layout.ROW_PADDED if offset == 4 + GUARD_ELEMENTS else Layout.CONTIGUOUS
    placed = place(values((3, 4), ml_dtypes.bfloat16), layout=layout, device=CPU)
    placed.buffer[offset] = 0
    assert placed.changed() == "guard zone"


def test_a_write_to_far_values_is_noticed() -> None:
    placed = place(values((3, 4), np.float16), layout=Layout.FAR_APART, device=CPU)
    placed.tensor[2, 3] = 0
    assert placed.changed() == "values"


def test_bfloat16_keeps_its_bits() -> None:
    bits = np.arange(0, 2**16, 7, dtype=np.uint16)
    array = bits.view(ml_dtypes.bfloat16)
    assert (to_array(to_tensor(array)).view(np.uint16) == bits).all()


def test_unwritten_memory_is_poisoned() -> None:
    with PoisonedAllocations() as allocations:
        plain = torch.empty(3, 5)
        like = torch.empty_like(plain, dtype=torch.bfloat16)
        new = plain.new_empty((2, 2))
        strided = torch.empty_strided((3, 2), (1, 3), dtype=torch.int32)
        written = torch.zeros(4)
    assert all(tensor.isnan().all() for tensor in (plain, like, new))
    assert (strided == strided[0, 0]).all()
    assert strided[0, 0] < -(2**30)
    assert (written == 0).all()
    assert allocations.overrun() is None


def test_unwritten_memory_may_look_like_values() -> None:
    with PoisonedAllocations(UnwrittenMemory.ONES):
        tensors = [torch.empty(3, dtype=dtype) for dtype in (torch.bfloat16, torch.int32)]
    assert all((tensor == 1).all() for tensor in tensors)


@pytest.mark.parametrize("position", [-1, 15])
def test_a_write_beside_an_allocation_is_noticed(position: int) -> None:
    with PoisonedAllocations() as allocations:
        tensor = torch.empty(3, 5)
    around = tensor.as_strided((1,), (1,), tensor.storage_offset() + position)
    around.fill_(1.0)
    overrun = allocations.overrun()
    assert overrun is not None
    assert "(3, 5)" in overrun


def test_ids_and_weights_of_one_shape_lie_differently() -> None:
    """A kernel that reads weights by the strides of ids must not be right by chance."""
    shape = (4, 2)
    ids, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    placed = [place(array, layout=Layout.ROW_PADDED, device=CPU) for array in (ids, weights)]
    assert placed[0].tensor.stride() != placed[1].tensor.stride()
