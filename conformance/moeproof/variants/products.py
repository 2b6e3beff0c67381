"""Variants of the matrix products: in what order and precision the products are summed."""

from __future__ import annotations

import torch

from moeproof.variants import expert_steps as right
from moeproof.variants.expert_steps import Call, Tensor
from moeproof.variants.variant import expert_variant

_FLOAT32_BITS = 24


def exact_products(call: Call, rows: Tensor, weights: Tensor) -> Tensor:
    """(S, N, K) float64: products without rounding, as a fused multiply-add sees them."""
    return rows.double()[:, None, :] * weights.double()


def in_order(call: Call, products: Tensor) -> Tensor:
    """One fused multiply-add after the other."""
    return _chain(products.unbind(-1))


def in_reverse(call: Call, products: Tensor) -> Tensor:
    """One fused multiply-add after the other, from the last column to the first."""
    return _chain(products.flip(-1).unbind(-1))


def _chain(terms: tuple[Tensor, ...]) -> Tensor:
    total = torch.zeros_like(terms[0])
    for term in terms:
        total = (total + term).float().double()
    return total.float()


def four_chains(call: Call, products: Tensor) -> Tensor:
    """Every fourth column in a chain of its own, the four added at the end, as SIMD lanes do."""
    chains = [
        _chain(products[..., lane::4].unbind(-1)) for lane in range(min(4, products.shape[-1]))
    ]
    return right.accumulate(call, torch.stack(chains, dim=-1))


def split_in_three(call: Call, products: Tensor) -> Tensor:
    """Split-K: three parts of the columns, each summed as a tree, then added up."""
    parts = [
        right.accumulate(call, part.float())
        for part in products.tensor_split(3, dim=-1)
        if part.shape[-1]
    ]
    return right.accumulate(call, torch.stack(parts, dim=-1))


def blocks_of_16(call: Call, products: Tensor) -> Tensor:
    """Blocks of 16 summed exactly, each added to the sum and rounded once."""
    return _chain(tuple(part.sum(dim=-1) for part in products.split(16, dim=-1)))


def once_rounded(call: Call, products: Tensor) -> Tensor:
    """The whole sum rounded once."""
    return products.sum(dim=-1).float()


def truncating(call: Call, products: Tensor, *, block: int, extra_bits: int) -> Tensor:
    """Fused blocks of a matrix unit that cuts instead of rounding.

    The products of a block and the sum so far are aligned to the largest among them, cut to 24
    and some extra bits there, added, and the result cut to float32 (Fasi, Higham, Mikaitis and
    Pranesh, "Numerical behavior of NVIDIA tensor cores", 2021). With fp32 storage there is no such
    unit: products are summed in order.
    """
    if call.dtype is torch.float32:
        return in_order(call, products)
    total = products.new_zeros(products.shape[:-1])
    for part in products.split(block, dim=-1):
        terms = torch.cat([total[..., None], part], dim=-1)
        largest = terms.abs().amax(dim=-1, keepdim=True)
        quantum = torch.exp2(torch.frexp(largest).exponent.double() - (_FLOAT32_BITS + extra_bits))
        aligned = torch.where(largest > 0, torch.trunc(terms / quantum) * quantum, 0.0)
        total = _cut_to_float32(aligned.sum(dim=-1))
    return total.float()


def _cut_to_float32(values: Tensor) -> Tensor:
    """float64 values rounded towards zero to 24 bits."""
    quantum = torch.exp2(torch.frexp(values).exponent.double() - _FLOAT32_BITS)
    return torch.where(values != 0, torch.trunc(values / quantum) * quantum, 0.0)


def volta(call: Call, products: Tensor) -> Tensor:
    """Blocks of four, no extra bit."""
    return truncating(call, products, block=4, extra_bits=0)


def ampere(call: Call, products: Tensor) -> Tensor:
    """Blocks of eight, one extra bit."""
    return truncating(call, products, block=8, extra_bits=1)


def hopper(call: Call, products: Tensor) -> Tensor:
    """Blocks of sixteen, two extra bits."""
    return truncating(call, products, block=16, extra_bits=2)


def flush_subnormals(call: Call, rows: Tensor, weights: Tensor) -> Tensor:
    """Products of operands whose subnormals are taken as zero."""
    smallest = torch.finfo(call.dtype).tiny
    kept = [torch.where(operand.abs() < smallest, 0.0, operand) for operand in (rows, weights)]
    return exact_products(call, *kept)


expert_variant(
    "tree", "products are rounded to float32 and summed as a tree", engines="the steps as they are"
)
expert_variant(
    "in_order", "a chain of fused multiply-adds", engines="plain GPU cores",
    multiply=exact_products, accumulate=in_order,
)  # fmt: skip
expert_variant(
    "in_reverse", "the same chain from the other end", engines="plain GPU cores",
    multiply=exact_products, accumulate=in_reverse,
)  # fmt: skip
expert_variant(
    "four_chains", "four chains over every fourth column", engines="SIMD libraries",
    multiply=exact_products, accumulate=four_chains,
)  # fmt: skip
expert_variant(
    "split_k", "three parts of the columns, added at the end", engines="split-K and stream-K",
    accumulate=split_in_three,
)  # fmt: skip
expert_variant(
    "blocks_of_16", "exact blocks of 16, rounded into the sum", engines="AMD MFMA on CDNA3",
    multiply=exact_products, accumulate=blocks_of_16,
)  # fmt: skip
expert_variant(
    "once_rounded", "exact sums, rounded once", engines="an ideal accumulator",
    multiply=exact_products, accumulate=once_rounded,
)  # fmt: skip
expert_variant(
    "truncating_4", "blocks of 4 that cut", engines="NVIDIA Volta mma",
    multiply=exact_products, accumulate=volta,
)  # fmt: skip
expert_variant(
    "truncating_8", "blocks of 8 that cut at one more bit", engines="NVIDIA Ampere mma",
    multiply=exact_products, accumulate=ampere,
)  # fmt: skip
expert_variant(
    "truncating_16", "blocks of 16 that cut at two more bits", engines="NVIDIA Hopper wgmma",
    multiply=exact_products, accumulate=hopper,
)  # fmt: skip
expert_variant(
    "subnormals_flushed", "subnormal operands are taken as zero", engines="AMD MFMA on gfx90a",
    claims={"subnormals": False},
    multiply=flush_subnormals, accumulate=in_order,
)  # fmt: skip
