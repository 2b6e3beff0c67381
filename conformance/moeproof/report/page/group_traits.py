"""What a case's routing says about it: the rows of its experts, and slots without one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from moeproof.case import Case
from moeproof.inputs import make_routing

_BLOCK_HEIGHTS = (16, 32, 64, 128, 256)


@cache
def group_traits(case_id: str) -> Mapping[str, str]:
    """Trait -> "yes" or "no"; empty for a router's case, and where the id cannot be read."""
    try:
        case = Case.parse(case_id)
    except ValueError:
        return {}
    ids, experts = make_routing(case).topk_ids, case.problem.num_experts
    named = ids[(ids >= 0) & (ids < experts)]
    rows = np.bincount(named, minlength=experts)
    traits = {
        f"fullest expert over {height} rows": rows.max() > height for height in _BLOCK_HEIGHTS
    }
    traits |= {"idle experts": rows.min() == 0, "masked ids": named.size < ids.size}
    return {name: "yes" if holds else "no" for name, holds in traits.items()}
