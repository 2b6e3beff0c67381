"""Triton kernels that are not ours, compiled for AMD GPUs, against torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

ARCHITECTURES = ["gfx942"]


@pytest.fixture(params=ARCHITECTURES)
def kernels(request: pytest.FixtureRequest, kernels_of: Any) -> Any:
    return kernels_of(request.param)


@pytest.mark.parametrize(("name", "dtype"), [("add", torch.float32)])
def test_vector_addition(kernels: Any, random_tensor: Any, name: str, dtype: torch.dtype) -> None:
    n = 5000
    x, y = random_tensor(n, dtype=dtype, seed=1), random_tensor(n, dtype=dtype, seed=2)
    out = torch.full((n,), torch.nan, dtype=dtype)
    arguments = {"x_ptr": x, "y_ptr": y, "out_ptr": out, "n": n}
    figures = kernels.run(name, arguments, grid=(5,))
    assert torch.equal(out, x + y)
    assert figures.waves == 20
