"""How the judgement of one case takes one kind of corruption, in counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Sight:
    """What becomes of every instance of a corruption.

    Attributes:
        corruption: what is spoilt, in words.
        refused: instances that would be refused.
        idle: not applicable, because the routing gives what they spoil no part in the answer.
        unjudged: not applicable, because any value is right where they change one.
        small: not applicable, because nothing that they change is substantial.
        blind: instances that ought to be refused and would pass.
        example: the first of these in words, or an empty string.
    """

    corruption: str
    refused: int
    idle: int
    unjudged: int
    small: int
    blind: int
    example: str = ""

    @classmethod
    def of(
        cls,
        corruption: str,
        *,
        active: ArrayLike,
        judged: ArrayLike,
        substantial: ArrayLike,
        refused: ArrayLike,
        describe: Callable[[int], str],
    ) -> Sight:
        """Counts from one truth value of each kind for every instance, arrays of one shape.

        ``describe`` says an instance, given by its flat index, in words.
        """
        active, judged, substantial, refused = (
            np.asarray(truth, dtype=bool) for truth in (active, judged, substantial, refused)
        )
        passes = ~refused
        reachable = active & judged & passes
        blind = reachable & substantial
        first = np.flatnonzero(blind)
        return cls(
            corruption=corruption,
            refused=int(refused.sum()),
            idle=int((passes & ~active).sum()),
            unjudged=int((passes & active & ~judged).sum()),
            small=int((reachable & ~substantial).sum()),
            blind=int(blind.sum()),
            example=describe(int(first[0])) if first.size else "",
        )
