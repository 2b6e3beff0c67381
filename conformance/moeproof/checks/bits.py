"""Comparison of two outputs bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.verdict import Finding, Outcome


def compare_bits(actual: NDArray[Any], *, expected: NDArray[Any], what: str) -> Finding:
    """PASS if two outputs (T, H) are equal; +0 and -0 are equal, and NaN equals NaN.

    Figures: ``wrong_elements``.
    """
    got, wanted = actual.astype(np.float64), expected.astype(np.float64)
    wrong = ~((got == wanted) | (np.isnan(got) & np.isnan(wanted)))
    figures = {"wrong_elements": float(wrong.sum())}
    if not wrong.any():
        return Finding(Outcome.PASS, figures=figures)
    token, column = (int(index) for index in np.argwhere(wrong)[0])
    message = (
        f"{int(wrong.sum())} of {wrong.size} elements differ from {what}; first at token {token}, "
        f"column {column}: got {got[token, column]:.9g}, expected {wanted[token, column]:.9g}"
    )
    return Finding(Outcome.FAIL, message, figures)
