"""Triton's conversions and products of narrow floats, emulated, against torch and exact sums."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

ARCHITECTURES = ["gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201"]
CONVERTING = ("gfx942", "gfx950")  # Triton uses their instructions to convert 8-bit floats
DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8e4nv": torch.float8_e4m3fn,
    "fp8e5": torch.float8_e5m2,
    "fp8e4b8": torch.float8_e4m3fnuz,
    "fp8e5b16": torch.float8_e5m2fnuz,
}


def eight_bits(arch: str) -> tuple[str, str]:
    return ("fp8e4b8", "fp8e5b16") if arch == "gfx942" else ("fp8e4nv", "fp8e5")


@pytest.fixture(params=ARCHITECTURES)
def kernels(request: pytest.FixtureRequest, kernels_of: Any) -> Any:
    return kernels_of(request.param, "conversion_kernels.py")


def all_codes(dtype: torch.dtype) -> torch.Tensor:
    bits = 8 * dtype.itemsize
    step = 1 if bits == 8 else 37  # prime: every exponent and sign, mantissas of all kinds
    count = -(-(2**bits // step) // 256) * 256
    codes = torch.arange(count, dtype=torch.int64) * step % 2**bits
    return codes.to(torch.uint8 if bits == 8 else torch.uint16).view(dtype)


def test_widening_gives_the_values_of_every_code(kernels: Any) -> None:
    narrow = [*eight_bits(kernels.arch), "bf16", "fp16"]
    for source in narrow:
        x = all_codes(DTYPES[source])
        for to in ("fp32", "bf16", "fp16") if source.startswith("fp8") else ("fp32",):
            out = torch.full(x.shape, 7.0, dtype=DTYPES[to])
            kernels.run(f"{source} to {to}", {"x_ptr": x, "out_ptr": out}, grid=(len(x) // 256,))
            wanted = x.to(DTYPES[to])
            if source.startswith("fp8") and to == "bf16" and kernels.arch not in CONVERTING:
                # Triton's own code there knows neither infinity nor NaN.
                finite = torch.isfinite(wanted)
                out, wanted = out[finite], wanted[finite]
            torch.testing.assert_close(out, wanted, rtol=0, atol=0, equal_nan=True)


def test_narrowing_rounds_to_nearest_even(kernels: Any) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=2048) * 2.0 ** rng.integers(-20, 6, 2048)).float()
    for to in (*eight_bits(kernels.arch), "bf16", "fp16"):
        dtype = DTYPES[to]
        codes = all_codes(dtype).float()
        exact = codes[torch.isfinite(codes)][:256]
        ties = (exact + torch.nextafter(exact, torch.tensor(0.0))) / 2
        inside = torch.cat([x, exact, ties])
        inside = inside[: len(inside) // 256 * 256]
        out = torch.zeros(inside.shape, dtype=dtype)
        kernels.run(f"fp32 to {to}", {"x_ptr": inside, "out_ptr": out}, grid=(len(inside) // 256,))
        torch.testing.assert_close(out.float(), inside.to(dtype).float(), rtol=0, atol=0)


def test_quantisation_uses_the_whole_range(kernels: Any, random_tensor: Any) -> None:
    to = eight_bits(kernels.arch)[0]
    largest = 240.0 if kernels.arch == "gfx942" else 448.0
    x = random_tensor(4, 512)
    scale, out = torch.zeros(4), torch.zeros(4, 512, dtype=DTYPES[to])
    arguments = {"x_ptr": x, "scale_ptr": scale, "out_ptr": out}
    kernels.run(f"quantise to {to}", arguments, grid=(4,))
    torch.testing.assert_close(scale, x.abs().amax(1) / largest, rtol=2e-7, atol=0)
    assert (out.float().abs().amax(1) == largest).all()
    # The division may differ in its last bit: at most one step of the format, and rarely.
    wanted = (x / scale[:, None]).to(DTYPES[to])
    assert (out.view(torch.uint8).int() - wanted.view(torch.uint8).int()).abs().max() <= 1
    assert (out.view(torch.uint8) != wanted.view(torch.uint8)).float().mean() < 0.01


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("kind", ["bf16", "fp16", "fp32", "large", "small"])
def test_products_of_small_integers_are_exact(kernels: Any, kind: str, size: int) -> None:
    kind = dict(zip(("large", "small"), eight_bits(kernels.arch), strict=True)).get(kind, kind)
    rng = np.random.default_rng(size)
    a, b = (
        torch.from_numpy(rng.integers(-4, 5, shape)).to(DTYPES[kind])
        for shape in ((size, 64), (64, size))
    )
    c = torch.full((size, size), torch.nan)
    kernels.run(f"dot {kind} {size}", {"a_ptr": a, "b_ptr": b, "c_ptr": c}, grid=(1,))
    assert torch.equal(c, a.float() @ b.float())


def test_a_product_is_rounded_to_its_output(kernels: Any, random_tensor: Any) -> None:
    """On gfx950 its rows change lanes through v_permlane32_swap before they are stored."""
    a, b = (random_tensor(64, 64, dtype=torch.bfloat16, seed=seed) for seed in range(2))
    a, b = a.float().round().bfloat16(), b.float().round().bfloat16()
    c = torch.full((64, 64), torch.nan, dtype=torch.bfloat16)
    kernels.run("dot bf16 to bf16", {"a_ptr": a, "b_ptr": b, "c_ptr": c}, grid=(1,))
    assert torch.equal(c, (a.float() @ b.float()).bfloat16())


_MX = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e2m1": ml_dtypes.float4_e2m1fn,
}


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("b_kind", ["e4m3", "e2m1"])
@pytest.mark.parametrize("a_kind", ["e4m3", "e5m2", "e2m1"])
def test_scaled_products_of_gfx950(kernels_of: Any, a_kind: str, b_kind: str, size: int) -> None:
    depth = 256
    rng = np.random.default_rng(size)

    def draw(kind: str) -> tuple[np.ndarray, torch.Tensor, np.ndarray]:
        """Values (size, depth), their bytes, and exponents (size, depth / 32)."""
        values = rng.choice([-3.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], (size, depth))
        codes = values.astype(_MX[kind]).view(np.uint8)
        if kind == "e2m1":
            codes = codes[:, 0::2] | codes[:, 1::2] << 4
        return values, torch.from_numpy(codes), rng.integers(-2, 3, (size, depth // 32))

    a, a_bytes, a_exponents = draw(a_kind)
    b, b_bytes, b_exponents = draw(b_kind)
    c = torch.full((size, size), torch.nan)
    arguments = {
        "a_ptr": a_bytes,
        "a_scale_ptr": torch.from_numpy((a_exponents + 127).astype(np.uint8)),
        "b_ptr": b_bytes.T.contiguous(),
        "b_scale_ptr": torch.from_numpy((b_exponents + 127).astype(np.uint8)),
        "c_ptr": c,
    }
    kernels = kernels_of("gfx950", "conversion_kernels.py")
    kernels.run(f"dot_scaled {a_kind} {b_kind} {size}", arguments, grid=(1,))
    scaled_a = a * np.repeat(2.0**a_exponents, 32, axis=1)
    scaled_b = b * np.repeat(2.0**b_exponents, 32, axis=1)
    np.testing.assert_array_equal(c.numpy(), scaled_a @ scaled_b.T)
