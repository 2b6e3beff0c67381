"""Runs the kernels on the CPU, under Triton's interpreter; on the GPU with TRITON_INTERPRET=0.

The fixtures hold what several test modules need: inputs, and the fp64 oracle with its error bound.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# Read once, when triton is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch

from moe_dispatch.target import INTERPRETED
from moe_dispatch.tile_config import GemmTile, SlicedTile, TileConfig

UNIT_ROUNDOFF = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-24}
SMALLEST_SUBNORMAL = {torch.bfloat16: 2.0**-133, torch.float16: 2.0**-24, torch.float32: 2.0**-149}
FP32 = 2.0**-24


@dataclass(frozen=True)
class Experts:
    """Arguments of `fused_experts`."""

    hidden_states: torch.Tensor
    gate_up_proj: torch.Tensor
    down_proj: torch.Tensor
    topk_ids: torch.Tensor
    topk_weights: torch.Tensor

    @property
    def arguments(self) -> tuple[torch.Tensor, ...]:
        return (
            self.hidden_states,
            self.gate_up_proj,
            self.down_proj,
            self.topk_ids,
            self.topk_weights,
        )


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Fills what `torch.empty` returns with NaN or the largest integer: nothing may rely on it."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cpu" if INTERPRETED else "cuda")


@pytest.fixture(scope="session")
def make_experts(device: torch.device) -> Callable[..., Experts]:
    """Random inputs of the given sizes; outputs of order one."""

    def make(
        num_tokens: int,
        hidden_size: int,
        intermediate_size: int,
        num_experts: int,
        top_k: int,
        dtype: torch.dtype = torch.float32,
        *,
        seed: int = 0,
    ) -> Experts:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator)

        gate_up_proj = normal(num_experts, 2 * intermediate_size, hidden_size) / hidden_size**0.5
        down_proj = normal(num_experts, hidden_size, intermediate_size) * 2
        scores = torch.rand(num_tokens, num_experts, generator=generator)
        topk_weights, topk_ids = scores.topk(top_k)
        return Experts(
            normal(num_tokens, hidden_size).to(device, dtype),
            gate_up_proj.to(device, dtype),
            (down_proj / intermediate_size**0.5).to(device, dtype),
            topk_ids.to(device, torch.int32),
            topk_weights.to(device),
        )

    return make


@pytest.fixture(scope="session")
def guarded() -> Callable[..., torch.Tensor]:
    def guard(tensor: torch.Tensor, *, at_end: bool) -> torch.Tensor:
        """A copy between two pages that cannot be read, next to one of them. GPU tensors stay."""
        if tensor.is_cuda:
            return tensor
        size = tensor.numel() * tensor.element_size()
        inner = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        pages = mmap.mmap(-1, inner + 2 * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for page in (start, start + mmap.PAGESIZE + inner):
            if protect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        offset = mmap.PAGESIZE + (inner - size if at_end else 0)
        copy = torch.frombuffer(pages, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
        return copy.view(tensor.shape).copy_(tensor)

    return guard


@pytest.fixture
def count_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Counter[str]]:
    def count(module: ModuleType, *names: str) -> Counter[str]:
        """Counts calls of the module's functions within kernels, under the interpreter."""
        counted: Counter[str] = Counter()

        def counting(name: str, function: Callable[..., None]) -> Callable[..., None]:
            def call(*arguments: Any) -> None:
                counted[name] += 1
                function(*arguments)

            return call

        if INTERPRETED:
            for name in names:
                monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
        return counted

    return count


def product(
    a: torch.Tensor, b: torch.Tensor, a_error: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    """a (M, K) @ b (N, K)^T and a bound on the error of any fp32-accumulating product.

    2 (K + 3) 2^-24 sum |a b| holds for every order of summation, on matrix units that truncate as
    well as on rounding adders (Blanchard et al. 2020, doi:10.1137/19M1289546). a_error bounds the
    error of a's elements.
    """
    exact = a @ b.T
    magnitude = a.abs() @ b.abs().T
    bound = 2 * (a.shape[1] + 3) * FP32 * magnitude
    if isinstance(a_error, torch.Tensor):
        bound += a_error @ b.abs().T
    return exact, bound


@pytest.fixture(scope="session")
def oracle() -> Callable[[Experts], tuple[torch.Tensor, torch.Tensor]]:
    """The fp64 output (T, H) of the experts and a bound on the kernels' error in each element."""

    def evaluate(experts: Experts) -> tuple[torch.Tensor, torch.Tensor]:
        dtype = experts.hidden_states.dtype
        x, gate_up_proj, down_proj, weights = (
            tensor.cpu().double()
            for tensor in (
                experts.hidden_states,
                experts.gate_up_proj,
                experts.down_proj,
                experts.topk_weights,
            )
        )
        ids = experts.topk_ids.cpu()
        top_k = ids.shape[1]
        output, bound, magnitude = (torch.zeros_like(x) for _ in range(3))

        def rounded(value: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
            step = UNIT_ROUNDOFF[dtype] * (value.abs() + error) + SMALLEST_SUBNORMAL[dtype]
            return error + step

        for expert in range(gate_up_proj.shape[0]):
            tokens, slots = torch.nonzero(ids == expert, as_tuple=True)
            gate_weight, up_weight = gate_up_proj[expert].chunk(2)
            gate, gate_error = product(x[tokens], gate_weight, 0.0)
            up, up_error = product(x[tokens], up_weight, 0.0)
            # |SiLU'| <= 1.1; exp, the sum, the division and the product round in fp32, and a fast
            # exp of g adds 1.173 |g| units.
            silu = torch.nn.functional.silu(gate)
            silu_error = 1.1 * gate_error + (7 + 1.173 * gate.abs()) * 2 * FP32 * silu.abs()
            h = silu * up
            h_error = silu.abs() * up_error + up.abs() * silu_error + silu_error * up_error
            h_error = rounded(h, h_error + FP32 * h.abs())
            y, y_error = product(h, down_proj[expert], h_error)
            y_error = rounded(y, y_error)
            weight = weights[tokens, slots, None]
            output.index_add_(0, tokens, weight * y)
            bound.index_add_(0, tokens, weight.abs() * y_error)
            magnitude.index_add_(0, tokens, weight.abs() * (y.abs() + y_error))
        bound += (top_k + 2) * FP32 * magnitude
        return output, rounded(output, bound)

    return evaluate


@pytest.fixture(scope="session")
def assert_within() -> Callable[..., None]:
    """Fails naming the worst element if |actual - expected| exceeds the bound anywhere."""

    def check(*, actual: torch.Tensor, expected: torch.Tensor, bound: torch.Tensor) -> None:
        assert actual.shape == expected.shape
        error = (actual.cpu().double() - expected).abs()
        # A NaN is no smaller than the bound.
        wrong = ~(error <= bound)
        if wrong.any():
            place = tuple(torch.nonzero(wrong)[0].tolist())
            raise AssertionError(
                f"{int(wrong.sum())} elements outside the bound, the first at {place}: "
                f"got {actual[place].item()}, expected {expected[place].item()} "
                f"+- {bound[place].item():.3g}"
            )

    return check


def _tiles(
    heights: tuple[int, ...],
    block_n: int,
    block_k: int,
    group_m: int = 1,
    *,
    by_descriptor: bool = False,
    tall_block_k: int = 0,
    sliced: SlicedTile | None = None,
) -> TileConfig:
    stages = (1,) * len(heights)
    tile = GemmTile(block_n, block_k, group_m, 4, stages, by_descriptor, tall_block_k=tall_block_k)
    return TileConfig(heights, tile, tile, sliced=sliced)


@pytest.fixture
def make_tiles() -> Callable[..., TileConfig]:
    """One tile for both grouped GEMMs: heights, block_n, block_k, group_m; others by keyword."""
    return _tiles


@pytest.fixture(
    params=[
        pytest.param(_tiles((16,), 32, 16), id="plain"),
        pytest.param(_tiles((16,), 16, 64, 3), id="groups"),
        pytest.param(_tiles((32,), 64, 32, 2), id="wide"),
        pytest.param(_tiles((16,), 32, 16, 2, by_descriptor=True), id="descriptors"),
        pytest.param(_tiles((8, 16), 32, 16, 2), id="heights"),
        pytest.param(_tiles((4, 8, 12), 32, 16, 2), id="tail"),
        pytest.param(_tiles((4, 8, 12), 32, 16, 2, by_descriptor=True), id="tail-by-descriptor"),
        pytest.param(_tiles((8, 16), 32, 64, tall_block_k=32), id="depths"),
        pytest.param(
            _tiles((8, 16), 32, 32, tall_block_k=16, by_descriptor=True), id="depths-by-descriptor"
        ),
        pytest.param(_tiles((16,), 32, 16, sliced=SlicedTile(16, 64, 1)), id="sliced"),
        pytest.param(
            _tiles((8, 16), 32, 16, 2, by_descriptor=True, sliced=SlicedTile(32, 64, 1)),
            id="sliced-if-low",
        ),
    ]
)
def tiles(request: pytest.FixtureRequest) -> TileConfig:
    """Each form that the grouped GEMMs' tiles may have."""
    config: TileConfig = request.param
    return config
