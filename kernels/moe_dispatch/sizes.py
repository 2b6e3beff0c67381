"""Integer arithmetic of grids and tiles on the host.

Triton's own `cdiv` and `next_power_of_2` serve kernels as well, which makes them cost microseconds
when the host calls them.
"""

from __future__ import annotations


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up, for b > 0."""
    return -(-a // b)


def next_power_of_2(n: int) -> int:
    """The smallest power of two that is at least n, for n >= 1."""
    return 1 << (n - 1).bit_length()
