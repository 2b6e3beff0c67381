"""The R statistic: are the errors as small as random rounding makes them?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moeproof.oracle.interval import Interval

R_LIMIT = 1.6
"""Above it an implementation loses more accuracy than any legal one."""

R_MINIMUM_OUTPUTS = 64
"""Fewer outputs than this say nothing: their R may exceed the limit by chance."""

_LARGEST_SQUARE = 16.0  # one element counts for four standard deviations at most


def r_statistic(actual: NDArray[np.generic], interval: Interval) -> float:
    """R = sqrt(mean min(z^2, 16)), z = (actual - emulated) / sqrt(variance); 1 is expected at most.

    Meaningful for values with independent random signs alone. Elements that are not judged and
    those that no expert contributes to (their bound is zero) are left out. A value that is not
    finite counts as four standard deviations. Where fewer than 64 of the outputs can err
    independently, as with one token and a small intermediate size, those missing count as exact.

    Raises:
        ValueError: fewer than 64 outputs are left.
    """
    judged = ~interval.overflow & (interval.bound > 0)
    if judged.sum() < R_MINIMUM_OUTPUTS:
        raise ValueError(
            f"R needs at least {R_MINIMUM_OUTPUTS} outputs that are judged, got {judged.sum()}"
        )
    values = actual.astype(np.float64)[judged]
    squares = (values - interval.emulated[judged]) ** 2 / interval.variance[judged]
    mean = np.mean(np.where(squares < _LARGEST_SQUARE, squares, _LARGEST_SQUARE))
    return float(np.sqrt(mean * min(1.0, interval.independent_outputs / R_MINIMUM_OUTPUTS)))
