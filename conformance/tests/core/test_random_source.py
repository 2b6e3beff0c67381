"""Random numbers are fixed bits, and have the distribution that they claim."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from moeproof.random_source import RandomSource, round_to_storage


def philox4x64(counter: int, key: tuple[int, int]) -> list[int]:
    """Philox4x64-10 as Salmon et al. (SC'11) define it, one block, in plain integers."""
    mask = 2**64 - 1
    words, (key_0, key_1) = [counter, 0, 0, 0], key
    for _ in range(10):
        product_0 = words[0] * 0xD2E7470EE14C6C93
        product_1 = words[2] * 0xCA5A826395121157
        words = [
            (product_1 >> 64) ^ words[1] ^ key_0,
            product_1 & mask,
            (product_0 >> 64) ^ words[3] ^ key_1,
            product_0 & mask,
        ]
        key_0 = (key_0 + 0x9E3779B97F4A7C15) & mask
        key_1 = (key_1 + 0xBB67AE8584CAA73B) & mask
    return words


def test_the_words_are_those_of_the_published_algorithm() -> None:
    digest = hashlib.blake2b(b"a case id\x1fhidden_states", digest_size=16).digest()
    key = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))
    expected = philox4x64(1, key) + philox4x64(2, key)
    assert RandomSource("a case id", "hidden_states").words(8).tolist() == expected


def test_names_separate_streams() -> None:
    assert RandomSource("a", "b").words(1) != RandomSource("ab").words(1)
    assert RandomSource("a", "b").words(1) != RandomSource("b", "a").words(1)


def test_symmetric_has_unit_variance_and_no_bias() -> None:
    values = RandomSource("symmetric").symmetric((200_000,))
    deviation = 1 / np.sqrt(len(values))
    assert abs(values.mean()) < 5 * deviation
    assert abs(values.var() - 1) < 10 * deviation
    assert np.abs(values).max() <= 2 * np.sqrt(3)


def test_integers_cover_the_range_evenly() -> None:
    counts = np.bincount(RandomSource("integers").integers(0, 7, (70_000,)), minlength=7)
    assert len(counts) == 7
    assert np.abs(counts - 10_000).max() < 500
    with pytest.raises(ValueError, match="high - low"):
        RandomSource("integers").integers(3, 3, (1,))


def test_permutations_are_permutations() -> None:
    rows = RandomSource("permutations").permutations(50, 9)
    assert (np.sort(rows, axis=1) == np.arange(9)).all()
    assert len({tuple(row) for row in rows}) > 40


def test_bfloat16_is_reached_by_one_rounding() -> None:
    """1 + 2**-8 + 2**-30 lies above a tie; through float32 it would land on the tie."""
    random = RandomSource("rounding").symmetric((2000,))
    tie = 1 + 2.0**-8
    values = np.concatenate([random, [tie, tie + 2.0**-30, tie - 2.0**-30, 3 * tie - 2.0**-40]])
    rounded = round_to_storage(values, np.dtype(ml_dtypes.bfloat16)).astype(np.float64)
    for value, result in zip(values, rounded, strict=True):
        exact, got = Fraction(value), Fraction(result)
        ulp = Fraction(2) ** (int(np.frexp(value)[1]) - 8)
        assert abs(got - exact) * 2 <= ulp
        if abs(got - exact) * 2 == ulp:
            assert (got / ulp) % 2 == 0
