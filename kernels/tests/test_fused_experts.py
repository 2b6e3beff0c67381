"""The experts' forward pass from end to end against the fp64 oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from moe_dispatch import fused_experts

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("num_tokens", "hidden_size", "intermediate_size", "num_experts", "top_k"),
    [
        pytest.param(9, 40, 36, 5, 3, id="ragged"),
        pytest.param(1, 1, 1, 1, 1, id="ones"),
        pytest.param(33, 64, 32, 2, 2, id="every-expert-2I-equals-H"),
        pytest.param(17, 67, 37, 7, 6, id="primes"),
    ],
)
def test_matches_oracle(
    make_experts: Callable[..., Any],
    oracle: Callable[..., Any],
    assert_within: Callable[..., None],
    dtype: torch.dtype,
    num_tokens: int,
    hidden_size: int,
    intermediate_size: int,
    num_experts: int,
    top_k: int,
) -> None:
    experts = make_experts(num_tokens, hidden_size, intermediate_size, num_experts, top_k, dtype)
    expected, bound = oracle(experts)
    actual = fused_experts(*experts.arguments)
    assert actual.dtype == dtype
    assert_within(actual=actual, expected=expected, bound=bound)
