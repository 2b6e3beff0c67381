"""Triton kernels that are not ours, compiled for AMD GPUs, against torch.

All of them run on one CDNA and one RDNA architecture, and the matrix products on all five.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

ARCHITECTURES = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201")


@pytest.fixture(params=["gfx942", "gfx1201"])
def kernels(request: pytest.FixtureRequest, kernels_of: Callable[[str], Any]) -> Any:
    return kernels_of(request.param)


@pytest.mark.parametrize(("name", "dtype"), [("add", torch.float32), ("add_buffers", torch.half)])
def test_vector_addition(kernels: Any, random_tensor: Any, name: str, dtype: torch.dtype) -> None:
    n = 5000
    x, y = random_tensor(n, dtype=dtype, seed=1), random_tensor(n, dtype=dtype, seed=2)
    out = torch.full((n,), torch.nan, dtype=dtype)
    figures = kernels.run(name, {"x_ptr": x, "y_ptr": y, "out_ptr": out, "n": n}, grid=(5,))
    assert torch.equal(out, x + y)
    assert figures.waves == 20
    assert figures.lds_races == ()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_division_is_correctly_rounded(kernels_of: Callable[[str], Any], arch: str) -> None:
    """LLVM makes v_div_scale, v_div_fmas and v_div_fixup of it, which only together are right."""
    generator = _generator()
    bits = torch.randint(-(2**31), 2**31, (2, 20_000), generator=generator).int()
    special = torch.tensor(
        [0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000]
    )
    special = torch.cat([special, special - 2**31]).int()
    pairs = torch.cartesian_prod(special, special).T
    x, y = torch.cat([bits, pairs], 1).contiguous().view(torch.float32)
    n = len(x)
    out = torch.full((n,), torch.nan)
    figures = kernels_of(arch).run(
        "divide",
        {"x_ptr": x.clone(), "y_ptr": y.clone(), "out_ptr": out, "n": n},
        grid=(-(-n // 1024),),
    )
    assert figures.opcodes["v_div_scale_f32"] > 0
    torch.testing.assert_close(out, x / y, rtol=0, atol=0, equal_nan=True)


def test_softmax(kernels: Any, random_tensor: Any) -> None:
    x = 3 * random_tensor(7, 1000)
    out = torch.full_like(x, torch.nan)
    kernels.run("softmax", {"x_ptr": x, "out_ptr": out, "columns": 1000}, grid=(7,))
    torch.testing.assert_close(out, torch.softmax(x, 1), rtol=2**-20, atol=2**-30)


def test_layer_norm(kernels: Any, random_tensor: Any) -> None:
    x, weight, bias = random_tensor(5, 500), random_tensor(500, seed=1), random_tensor(500, seed=2)
    out = torch.full_like(x, torch.nan)
    arguments = {"x_ptr": x, "weight_ptr": weight, "bias_ptr": bias, "out_ptr": out}
    kernels.run("layer_norm", {**arguments, "columns": 500, "epsilon": 1e-5}, grid=(5,))
    expected = torch.nn.functional.layer_norm(x.double(), (500,), weight.double(), bias.double())
    torch.testing.assert_close(out.double(), expected, rtol=2**-18, atol=2**-18)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(
    ("name", "dtype", "rows", "columns", "relative"),
    [
        ("matmul_fp16", torch.half, 64, 64, 2**-20),
        ("matmul_bf16", torch.bfloat16, 32, 64, 2**-20),
        # Triton's default for float32 is tf32 where there is one: xf32 on gfx942.
        ("matmul_fp32", torch.float32, 32, 32, {"gfx942": 2**-9}),
    ],
)
def test_masked_product(
    kernels_of: Callable[[str], Any],
    random_tensor: Any,
    arch: str,
    name: str,
    dtype: torch.dtype,
    rows: int,
    columns: int,
    relative: Any,
) -> None:
    M, N, K = 100, 120, 90
    a, b = random_tensor(M, K, dtype=dtype), random_tensor(K, N, dtype=dtype, seed=1)
    c = torch.full((M, N), torch.nan)
    arguments = {"a_ptr": a, "b_ptr": b, "c_ptr": c, "M": M, "N": N, "K": K}
    figures = kernels_of(arch).run(name, arguments, grid=(-(-M // rows), -(-N // columns)))
    size = a.double().abs() @ b.double().abs()
    worst = ((c.double() - a.double() @ b.double()).abs() / size).max()
    if isinstance(relative, dict):
        relative = relative.get(arch, 2**-20)
    assert worst < relative
    assert figures.lds_races == ()


def test_histogram(kernels: Any) -> None:
    x = torch.randint(0, 64, (3000,), dtype=torch.int32, generator=_generator())
    counts = torch.zeros(64, dtype=torch.int32)
    kernels.run("histogram", {"x_ptr": x, "counts_ptr": counts, "n": 3000}, grid=(6,))
    assert torch.equal(counts, torch.bincount(x, minlength=64).int())


def test_atomics(kernels: Any) -> None:
    x = torch.randint(-50, 50, (1000,), dtype=torch.int32, generator=_generator())
    total, most = torch.zeros(8), torch.full((8,), -99, dtype=torch.int32)
    last = torch.zeros(5, dtype=torch.int32)
    arguments = {"x_ptr": x, "sum_ptr": total, "most_ptr": most, "last_ptr": last, "n": 1000}
    kernels.run("atomics", arguments, grid=(4,))
    assert torch.equal(total, x.view(125, 8).sum(0).float())
    assert torch.equal(most, x.view(125, 8).max(0).values)
    assert last[0] == 4
    assert sorted(last[1:].tolist()) == [1, 2, 3, 4]


def test_scans(kernels: Any) -> None:
    x = torch.randint(-50, 50, (4, 512), dtype=torch.int32, generator=_generator())
    total, most = torch.zeros_like(x), torch.zeros_like(x)
    kernels.run("scan", {"x_ptr": x, "sum_ptr": total, "most_ptr": most}, grid=(4,))
    assert torch.equal(total, x.cumsum(1).int())
    assert torch.equal(most, x.cummax(1).values)


def test_sort(kernels: Any, random_tensor: Any) -> None:
    x = random_tensor(4, 128)
    out = torch.full_like(x, torch.nan)
    kernels.run("sort", {"x_ptr": x, "out_ptr": out}, grid=(1,))
    assert torch.equal(out, x.sort(1).values)


def test_gather(kernels: Any, random_tensor: Any) -> None:
    x = random_tensor(16, 64)
    index = torch.randint(0, 64, (16, 64), dtype=torch.int32, generator=_generator())
    out = torch.full_like(x, torch.nan)
    kernels.run("gather", {"x_ptr": x, "index_ptr": index, "out_ptr": out}, grid=(1,))
    assert torch.equal(out, x.gather(1, index.long()))


def test_argmax(kernels: Any, random_tensor: Any) -> None:
    x = random_tensor(16, 128)
    most, where = torch.zeros(16), torch.zeros(16, dtype=torch.int32)
    kernels.run("argmax", {"x_ptr": x, "most_ptr": most, "where_ptr": where}, grid=(1,))
    assert torch.equal(most, x.max(1).values)
    assert torch.equal(where, x.argmax(1).int())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)
