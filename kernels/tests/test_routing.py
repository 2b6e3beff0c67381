"""The router against scores in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from moe_dispatch import route

INFINITY = float("inf")
NAN = float("nan")


def scores(logits: torch.Tensor, scoring: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Float64 scores and the error of a float32 evaluation with a fast exp.

    An exp of x is off by 2 + 1.7 |x| units of 2^-23, the argument's own rounding included; softmax
    adds the sum's and the division's roundings.
    """
    logits = logits.cpu().double()
    if scoring == "softmax":
        score = logits.softmax(1)
        argument = (logits.amax(1, keepdim=True) - logits).abs().clamp(max=128)
        relative = (2 + 1.7 * argument) * 2.0**-23
        relative += (score * relative).sum(1, keepdim=True) + (logits.shape[1] + 5) * 2.0**-24
    else:
        score = logits.sigmoid()
        relative = (2 + 1.7 * logits.abs()) * (1 - score) * 2.0**-23 + 6 * 2.0**-24
    return score, score * relative + 2.0**-126


def check(logits: torch.Tensor, top_k: int, **options: Any) -> None:
    """The ids are a legal choice, best first, and the weights follow from them."""
    scoring = options.get("scoring", "softmax")
    ids, weights = route(logits, top_k, **options)
    assert ids.dtype == torch.int32
    assert weights.dtype == torch.float32
    ids, weights = ids.cpu().long(), weights.cpu().double()
    num_tokens, num_experts = logits.shape
    assert ids.shape == weights.shape == (num_tokens, top_k)
    assert ((ids >= 0) & (ids < num_experts)).all()
    assert (ids.sort(1).values.diff(dim=1) > 0).all()

    score, error = scores(logits, scoring)
    bias = options.get("correction_bias")
    choice = score if bias is None else score + bias.cpu().double()
    margin = error if bias is None else error + 2.0**-23 * choice.abs()
    num_groups, topk_groups = options.get("num_groups", 1), options.get("topk_groups", 1)
    if num_groups > topk_groups:
        # The inputs are such that groups are far apart.
        grouped = choice.view(num_tokens, num_groups, -1)
        best_two = grouped.topk(min(2, grouped.shape[2])).values.sum(2)
        kept = torch.zeros_like(best_two).scatter_(1, best_two.topk(topk_groups).indices, 1)
        inside = kept.bool().repeat_interleave(num_experts // num_groups, 1)
        choice = choice.masked_fill(~inside, -INFINITY)
    chosen = torch.zeros_like(choice).scatter_(1, ids, 1).bool()
    least = (choice + margin).masked_fill(~chosen, INFINITY).amin(1)
    most_left = (choice - margin).masked_fill(chosen, -INFINITY).amax(1)
    assert (least >= most_left).all()
    ordered = choice.gather(1, ids)
    slack = margin.gather(1, ids)
    assert (ordered.diff(dim=1) <= slack[:, 1:] + slack[:, :-1]).all()

    expected, bound = score.gather(1, ids), error.gather(1, ids)
    if options.get("renormalize", True):
        total = expected.sum(1, keepdim=True)
        relative = bound / expected + bound.sum(1, keepdim=True) / total + (top_k + 4) * 2.0**-24
        expected = expected / total
        bound = expected * relative + 2.0**-126
    scale = options.get("scaling_factor", 1.0)
    expected, bound = expected * scale, bound * scale + 2.0**-23 * expected * scale
    assert ((weights - expected).abs() <= bound).all()


def normal(*shape: int, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * scale


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "top_k"),
    [
        pytest.param(1, 1, 1, id="one"),
        pytest.param(33, 8, 2, id="mixtral"),
        pytest.param(5, 60, 4, id="not-a-power-of-two"),
        pytest.param(2, 256, 10, id="many"),
        pytest.param(2, 1025, 16, id="past-1024"),
        pytest.param(3, 7, 7, id="every-expert"),
    ],
)
def test_choice_and_weights(
    device: torch.device,
    num_tokens: int,
    num_experts: int,
    top_k: int,
    scoring: str,
    renormalize: bool,
) -> None:
    logits = normal(num_tokens, num_experts).to(device)
    check(logits, top_k, scoring=scoring, renormalize=renormalize)


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_correction_bias_chooses_but_does_not_weigh(device: torch.device, scoring: str) -> None:
    bias = normal(24, scale=2.0).to(device)
    check(normal(9, 24).to(device), 4, scoring=scoring, correction_bias=bias)
    wide = torch.stack([bias, bias], dim=1)
    check(normal(9, 24).to(device), 4, scoring=scoring, correction_bias=wide[:, 1])


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("num_experts", "num_groups", "topk_groups", "top_k"),
    [(256, 8, 4, 8), (12, 4, 2, 3), (15, 5, 2, 6), (6, 6, 3, 2), (8, 2, 2, 3)],
)
@pytest.mark.parametrize("has_bias", [False, True])
def test_groups(
    device: torch.device,
    scoring: str,
    num_experts: int,
    num_groups: int,
    topk_groups: int,
    top_k: int,
    has_bias: bool,
) -> None:
    bias = torch.linspace(0, 1, num_experts)[torch.randperm(num_experts)].to(device)
    check(
        normal(7, num_experts).to(device),
        top_k,
        scoring=scoring,
        correction_bias=bias if has_bias else None,
        num_groups=num_groups,
        topk_groups=topk_groups,
        scaling_factor=2.5,
    )


def test_group_score_is_the_sum_of_the_two_best(device: torch.device) -> None:
    """The first group has the best expert, the second the best two, the third the largest sum."""
    bias = torch.tensor([9, 1, 1, 1, 8, 7, 1, 1, 6, 6, 6, 6], dtype=torch.float32, device=device)
    ids, _ = route(
        torch.zeros(1, 12, device=device), 2, correction_bias=bias, num_groups=3, topk_groups=1
    )
    assert ids.tolist() == [[4, 5]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits(device: torch.device, dtype: torch.dtype) -> None:
    check(normal(11, 40).to(device, dtype), 3)


def test_strided_logits(device: torch.device) -> None:
    logits = normal(60, 50).to(device)
    check(logits[3::7, 1::3], 3)
    check(logits.T, 3, scoring="sigmoid")
    check(logits[:1].expand(5, 50), 3)


def test_no_tokens(device: torch.device) -> None:
    ids, weights = route(torch.empty(0, 8, device=device), 3)
    assert ids.shape == weights.shape == (0, 3)


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_ties_go_to_the_lower_id(device: torch.device, scoring: str) -> None:
    logits = torch.tensor([[1.0, 2, 2, 1, 2, 2], [0, -0.0, 0, -0.0, 0, 0]], device=device)
    bias = torch.zeros(6, device=device)
    for options in ({}, {"correction_bias": bias}):
        ids, _ = route(logits, 3, scoring=scoring, **options)
        assert ids.tolist() == [[1, 2, 4], [0, 1, 2]]
    grouped, _ = route(torch.zeros(1, 8, device=device), 3, num_groups=4, topk_groups=2)
    assert grouped.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_logits_decide_where_scores_are_equal(device: torch.device, scoring: str) -> None:
    """exp(-300) and exp(-200) are both 0 in float32, sigmoid(30) and sigmoid(40) both 1."""
    logits = torch.tensor([[-300.0, -200, 0, -250], [30, 40, -9, 35]], device=device)
    ids, _ = route(logits, 3, scoring=scoring)
    assert ids.tolist() == [[2, 1, 3], [1, 3, 0]]
    logits = torch.cat([logits, logits - 500], dim=1)
    ids, _ = route(logits, 3, scoring=scoring, num_groups=2, topk_groups=1)
    assert ids.tolist() == [[2, 1, 3], [1, 3, 0]]


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("level", [-40.0, -100.0, -1e4, -1e30, -3e38])
def test_very_negative_logits_keep_their_quotients(
    device: torch.device, scoring: str, level: float
) -> None:
    logits = torch.full((2, 9), level, device=device)
    _, weights = route(logits, 4, scoring=scoring)
    torch.testing.assert_close(weights, torch.full_like(weights, 0.25), rtol=1e-6, atol=0)
    logits[:, 3] += 1
    if level > -1e7:
        ids, weights = route(logits, 2, scoring=scoring)
        assert ids.tolist() == [[3, 0]] * 2
        expected = torch.tensor([[1.0, 0.0]] * 2).sigmoid()
        expected[:, 1] = 1 - expected[:, 0]
        torch.testing.assert_close(weights.cpu(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_quotients_of_experts_far_below_the_best(device: torch.device, scoring: str) -> None:
    """A bias picks experts whose scores underflow: their quotient is that of exp(-200) and -201."""
    logits = torch.tensor([[0.0, -200, 5, -201]], device=device)
    bias = torch.tensor([0.0, 2, 0, 2], device=device)
    ids, weights = route(logits, 2, scoring=scoring, correction_bias=bias)
    assert ids.tolist() == [[1, 3]]
    certain = torch.tensor(1.0, dtype=torch.float64).sigmoid().item()
    assert weights[0].tolist() == pytest.approx([certain, 1 - certain], rel=1e-5)


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("renormalize", [True, False])
def test_minus_infinity_scores_zero(device: torch.device, scoring: str, renormalize: bool) -> None:
    logits = torch.full((2, 6), -INFINITY, device=device)
    logits[0, 4] = 1.5
    ids, weights = route(logits, 3, scoring=scoring, renormalize=renormalize)
    assert ids.tolist() == [[4, 0, 1], [0, 1, 2]]
    certain = 1.0 if renormalize or scoring == "softmax" else torch.tensor(1.5).sigmoid().item()
    assert weights[0].tolist() == pytest.approx([certain, 0, 0], rel=1e-6)
    assert weights[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"correction_bias": torch.arange(12.0)}, id="bias"),
        pytest.param({"num_groups": 4, "topk_groups": 2}, id="groups"),
    ],
)
@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize("where", [[2], [0, 5, 11], list(range(12))], ids=["one", "some", "all"])
def test_nan_and_infinity_stay_in_their_row(
    device: torch.device,
    scoring: str,
    renormalize: bool,
    options: dict[str, Any],
    value: float,
    where: list[int],
) -> None:
    options = {
        name: option.to(device) if isinstance(option, torch.Tensor) else option
        for name, option in options.items()
    }
    options |= {"scoring": scoring, "renormalize": renormalize}
    clean = normal(5, 12).to(device)
    spoilt = clean.clone()
    spoilt[1, where] = value
    ids, weights = route(spoilt, 5, **options)
    assert len(set(ids[1].tolist())) == 5
    assert set(ids[1].tolist()) <= set(range(12))
    clean_ids, clean_weights = route(clean, 5, **options)
    others = [0, 2, 3, 4]
    assert torch.equal(ids[others], clean_ids[others])
    assert torch.equal(weights[others], clean_weights[others])
    if value != value:
        assert weights[1].isnan().all()


def test_nan_is_chosen_last(device: torch.device) -> None:
    logits = torch.tensor([[NAN, -INFINITY, 1.0, NAN, 2.0]], device=device)
    ids, _ = route(logits, 5)
    assert ids.tolist() == [[4, 2, 1, 0, 3]]


def test_a_row_depends_on_itself_alone(device: torch.device) -> None:
    logits = normal(37, 20).to(device)
    ids, weights = route(logits, 4, renormalize=False)
    for row in (0, 1, 16, 36):
        alone_ids, alone_weights = route(logits[row : row + 1], 4, renormalize=False)
        assert torch.equal(alone_ids[0], ids[row])
        assert torch.equal(alone_weights[0], weights[row])


def test_logits_and_bias_are_not_written(device: torch.device) -> None:
    logits, bias = normal(9, 12).to(device), normal(12).to(device)
    before = logits.clone(), bias.clone()
    route(logits, 3, correction_bias=bias, num_groups=3, topk_groups=2)
    assert torch.equal(logits, before[0])
    assert torch.equal(bias, before[1])
