"""What is kept of an output's errors, so that two runs of one case can be held against each other.

A few hundred bytes a case: sums over blocks of tokens for the statistics of
:mod:`moeproof.report.comparison`, the bits of some outputs, and a digest of all of them. It has no
judgement in it and depends on nothing but the output and the oracle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.digests import bits_of, output_digest

TOKEN_BLOCKS = 8
SAMPLED_OUTPUTS = 48
LARGEST_Z = 4.0
"""One output counts for four standard deviations at most, as in the R statistic."""

# Multiples of 2^64 / golden ratio, modulo 2^64, are spread evenly and hit no stride of a tile.
_GOLDEN_STEP = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class ErrorSketch:
    """The errors of one output (T, H), z = (actual - exact) / standard deviation.

    The exact value is the float64 oracle's without any rounding, and the deviation is that of an
    implementation whose roundings are not declared: one scale for all implementations. Tokens are
    split into at most 8 blocks, for tokens err independently of each other. Zeros count as +0.

    Attributes:
        digest: of all outputs, 16 hexadecimal digits.
        sample: bits of at most 48 outputs in hexadecimal, from places that depend on T, H alone.
        sample_width: hexadecimal digits of one output in ``sample``.
        worst_token: the token with the largest error over bound, or -1 if there is none.
        counts, squares, signed: for each block of tokens the number of outputs, the sum of z^2 and
            the sum of z sign(exact), |z| counted up to 4. Empty where values have no independent
            random signs, so that z has no meaning.
    """

    digest: str
    sample: str
    sample_width: int
    worst_token: int
    counts: tuple[int, ...] = ()
    squares: tuple[float, ...] = ()
    signed: tuple[float, ...] = ()

    def to_evidence(self) -> dict[str, Any]:
        """Plain data for a verdict's evidence."""
        return asdict(self)

    @classmethod
    def from_evidence(cls, data: Mapping[str, Any]) -> ErrorSketch:
        """What :meth:`to_evidence` gave. Raises ValueError for anything else."""
        try:
            fields = data.items()
            sketch = cls(**{key: _from_plain(value) for key, value in fields})
            blocks = {len(sketch.counts), len(sketch.squares), len(sketch.signed)}
            valid = len(blocks) == 1 and len(sketch.sample) % sketch.sample_width == 0
            numbers = (*sketch.counts, *sketch.squares, *sketch.signed)
            valid = valid and all(isinstance(number, (int, float)) for number in numbers)
        except (TypeError, AttributeError, ZeroDivisionError):
            valid = False
        if not valid:
            raise ValueError(f"is no error sketch: {data!r}"[:300])
        return sketch

    def sampled_bits(self) -> tuple[str, ...]:
        """The sampled outputs, each as its bits in hexadecimal."""
        starts = range(0, len(self.sample), self.sample_width)
        return tuple(self.sample[start : start + self.sample_width] for start in starts)


def sketch_output(output: NDArray[Any], *, error_ratio: NDArray[np.float64]) -> ErrorSketch:
    """The sketch of an output (T, H) in storage dtype, without the sums of z.

    Args:
        output: what the implementation returned.
        error_ratio: (T, H), error over bound.
    """
    bits = bits_of(output)
    sampled = bits.reshape(-1)[_sampled_places(bits.size)]
    width = 2 * bits.itemsize
    return ErrorSketch(
        digest=output_digest(bits)[:16],
        sample="".join(f"{int(value):0{width}x}" for value in sampled),
        sample_width=width,
        worst_token=int(np.argmax(error_ratio.max(axis=1))) if error_ratio.size else -1,
    )


def sums_of_z(
    z: NDArray[np.float64], *, sign: NDArray[np.float64], counted: NDArray[np.bool_]
) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """``counts``, ``squares`` and ``signed`` of a sketch, from arrays (T, H).

    Args:
        z: errors in standard deviations. NaN counts as the largest.
        sign: of the exact values.
        counted: the outputs to count.
    """
    z = np.where(counted, np.clip(np.nan_to_num(z, nan=LARGEST_Z), -LARGEST_Z, LARGEST_Z), 0.0)
    blocks = [block for block in np.array_split(np.arange(len(z)), TOKEN_BLOCKS) if len(block)]
    return (
        tuple(int(counted[block].sum()) for block in blocks),
        tuple(round(float((z[block] ** 2).sum()), 4) for block in blocks),
        tuple(round(float((z[block] * sign[block]).sum()), 4) for block in blocks),
    )


def _from_plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _sampled_places(size: int) -> list[int]:
    wanted = min(size, SAMPLED_OUTPUTS)
    return [((index * _GOLDEN_STEP) % 2**64) * size >> 64 for index in range(1, wanted + 1)]
