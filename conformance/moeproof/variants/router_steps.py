"""A right router as a chain of small steps: variants and faults replace some of them.

Scores are computed in float64 and rounded once, so equal logits have equal scores wherever they
stand; ties go to the lower id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Tensor = torch.Tensor


@dataclass(frozen=True)
class RouterCall:
    """The arguments of ``route``."""

    router_logits: Tensor
    top_k: int
    scoring: str
    renormalize: bool
    correction_bias: Tensor | None
    num_groups: int
    topk_groups: int
    scaling_factor: float

    @property
    def num_experts(self) -> int:
        """E."""
        return self.router_logits.shape[1]


def read_logits(call: RouterCall) -> Tensor:
    """(T, E) float32."""
    return call.router_logits.float()


def score(call: RouterCall, logits: Tensor) -> Tensor:
    """(T, E) float32: softmax over the experts, or the sigmoid of each logit."""
    exact = logits.double()
    scores = exact.softmax(dim=1) if call.scoring == "softmax" else exact.sigmoid()
    return scores.float()


def rank(call: RouterCall, scores: Tensor) -> Tensor:
    """(T, E): what experts are chosen by, the scores plus the correction bias; never NaN."""
    ranking = scores if call.correction_bias is None else scores + call.correction_bias
    return ranking.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def score_groups(call: RouterCall, grouped: Tensor) -> Tensor:
    """(T, G): the sum of the two best of each group, from ``grouped`` (T, G, E / G).

    DeepSeek-V3 technical report (arXiv 2412.19437), section 2.1.2.
    """
    return grouped.topk(min(2, grouped.shape[2]), dim=2).values.sum(dim=2)


def mask_groups(call: RouterCall, grouped: Tensor, kept: Tensor) -> Tensor:
    """(T, G, E / G): the ranking with -inf outside the ``kept`` (T, G) groups."""
    return grouped.masked_fill(~kept[:, :, None], -torch.inf)


def select(call: RouterCall, ranking: Tensor) -> Tensor:
    """(T, K) int64: the best experts, of equal ones those with the lower ids."""
    return best(ranking, call.top_k)


def best(values: Tensor, count: int) -> Tensor:
    """(T, count): the places of the largest values in each row, of equal ones the first."""
    return values.sort(dim=1, descending=True, stable=True).indices[:, :count]


def weigh(call: RouterCall, scores: Tensor, ids: Tensor) -> Tensor:
    """(T, K): the chosen experts' scores, without the bias."""
    return scores.gather(1, ids)


def normalise(call: RouterCall, weights: Tensor) -> Tensor:
    """Weights divided by their sum, if asked for; a sum of zero is left as it is."""
    if not call.renormalize:
        return weights
    smallest = torch.finfo(torch.float32).tiny
    return weights / weights.sum(dim=1, keepdim=True).clamp_min(smallest)


def scale(call: RouterCall, weights: Tensor) -> Tensor:
    """Weights times the scaling factor."""
    return weights * call.scaling_factor


def store_ids(call: RouterCall, ids: Tensor) -> Tensor:
    """The ids as int32."""
    return ids.int()


@dataclass(frozen=True)
class RouterSteps:
    """The steps in the order in which they run; the defaults are right."""

    read_logits: Callable[[RouterCall], Tensor] = read_logits
    score: Callable[[RouterCall, Tensor], Tensor] = score
    rank: Callable[[RouterCall, Tensor], Tensor] = rank
    score_groups: Callable[[RouterCall, Tensor], Tensor] = score_groups
    mask_groups: Callable[[RouterCall, Tensor, Tensor], Tensor] = mask_groups
    select: Callable[[RouterCall, Tensor], Tensor] = select
    weigh: Callable[[RouterCall, Tensor, Tensor], Tensor] = weigh
    normalise: Callable[[RouterCall, Tensor], Tensor] = normalise
    scale: Callable[[RouterCall, Tensor], Tensor] = scale
    store_ids: Callable[[RouterCall, Tensor], Tensor] = store_ids

    def run(self, call: RouterCall) -> tuple[Tensor, Tensor]:
        """``topk_ids`` and ``topk_weights``, both (T, K)."""
        scores = self.score(call, self.read_logits(call))
        ranking = self.rank(call, scores)
        if call.num_groups > 1:
            ranking = self._within_best_groups(call, ranking)
        ids = self.select(call, ranking)
        weights = self.scale(call, self.normalise(call, self.weigh(call, scores, ids)))
        return self.store_ids(call, ids), weights

    def route(
        self,
        router_logits: Tensor,
        top_k: int,
        *,
        scoring: str,
        renormalize: bool,
        correction_bias: Tensor | None,
        num_groups: int,
        topk_groups: int,
        scaling_factor: float,
    ) -> tuple[Tensor, Tensor]:
        """:meth:`run`, with the signature of an implementation."""
        return self.run(
            RouterCall(
                router_logits,
                top_k,
                scoring,
                renormalize,
                correction_bias,
                num_groups,
                topk_groups,
                scaling_factor,
            )
        )

    def _within_best_groups(self, call: RouterCall, ranking: Tensor) -> Tensor:
        tokens, experts = ranking.shape
        grouped = ranking.view(tokens, call.num_groups, experts // call.num_groups)
        kept = torch.zeros(grouped.shape[:2], dtype=torch.bool, device=ranking.device)
        kept.scatter_(1, best(self.score_groups(call, grouped), call.topk_groups), True)
        return self.mask_groups(call, grouped, kept).flatten(1)


RIGHT_ROUTER = RouterSteps()
"""No step replaced."""
