"""Legal routers are never refused; routers with a fault are."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
import pytest

from moeproof.oracle import RoutingViolation, judge_routing
from moeproof.oracle.scores import normalised, router_scores
from moeproof.oracle.selection import Ranking, group_choices
from moeproof.router_inputs import RouterInputs

F32 = np.float32


@dataclass(frozen=True)
class Rules:
    """The keyword arguments of ``judge_routing``."""

    top_k: int = 2
    scoring: str = "softmax"
    renormalize: bool = True
    num_groups: int = 1
    topk_groups: int = 1
    scaling_factor: float = 1.0


@dataclass(frozen=True)
class Router:
    """A router in float32, legal unless ``fault`` says otherwise."""

    exponential: str = "correct"  # "fast": off by two units; "prescaled": exp2 of scaled logits
    ties: str = "lowest"
    ranks_logits: bool = False
    reciprocal: bool = False
    fault: str = ""

    def __call__(
        self, inputs: RouterInputs, rules: Rules, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        logits = inputs.router_logits.astype(F32)
        if self.fault == "bf16 logits":
            logits = logits.astype(ml_dtypes.bfloat16).astype(F32)
        scores = self._scores(logits, rules.scoring, random)
        if self.fault == "bf16 scores":
            scores = scores.astype(ml_dtypes.bfloat16).astype(F32)
        ranked = scores
        if inputs.correction_bias is not None and self.fault != "bias ignored":
            ranked = scores + inputs.correction_bias
        elif self.ranks_logits and rules.num_groups == 1:
            ranked = logits
        eligible = ranked
        if rules.num_groups > 1 and self.fault != "groups ignored":
            eligible = self._masked_by_group(ranked, rules, random)
        ids = self._best(eligible, rules.top_k, random)
        if self.fault == "next best":
            ids[:, -1] = self._best(eligible, rules.top_k + 1, random)[:, -1]
        if self.fault == "repeated id":
            ids[:, -1] = ids[:, 0]
        weights = np.take_along_axis(ranked if self.fault == "biased" else scores, ids, axis=1)
        if rules.renormalize and self.fault != "not renormalised":
            total = weights.sum(axis=1, keepdims=True, dtype=F32)
            if self.fault == "sum with 1e-3":
                total = total + F32(1e-3)
            weights = weights * (1 / total) if self.reciprocal else weights / total
        if self.fault != "not scaled":
            weights = weights * F32(rules.scaling_factor)
        if self.fault == "bf16 weights":
            weights = weights.astype(ml_dtypes.bfloat16).astype(F32)
        return ids, weights

    def _exp(self, values: np.ndarray, random: np.random.Generator) -> np.ndarray:
        with np.errstate(all="ignore"):
            if self.exponential == "correct":
                return np.exp(values)
            log2e = F32(1.4426950408889634)
            off = 1 + random.integers(-2, 3, values.shape) * 2.0**-23
            return (np.exp2(values * log2e).astype(np.float64) * off).astype(F32)

    def _scores(self, logits: np.ndarray, scoring: str, random: np.random.Generator) -> np.ndarray:
        with np.errstate(all="ignore"):
            if scoring == "sigmoid":
                return 1 / (1 + self._exp(-logits, random))
            largest = logits.max(axis=1, keepdims=True)
            if self.fault == "no maximum":
                largest = np.zeros_like(largest)
            if self.exponential == "prescaled":
                log2e = F32(1.4426950408889634)
                exponential = np.exp2(logits * log2e - largest * log2e)
            else:
                exponential = self._exp(logits - largest, random)
            order = random.permutation(logits.shape[1])
            return exponential / np.cumsum(exponential[:, order], axis=1, dtype=F32)[:, -1:]

    def _best(self, values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
        experts = np.arange(values.shape[1])
        if self.ties == "highest":
            experts = experts[::-1]
        elif self.ties == "random":
            experts = random.permutation(experts)
        keys = np.broadcast_to(experts, values.shape)
        return np.lexsort((keys, -values.astype(np.float64)), axis=1)[:, :count]

    def _masked_by_group(
        self, ranked: np.ndarray, rules: Rules, random: np.random.Generator
    ) -> np.ndarray:
        grouped = ranked.reshape(len(ranked), rules.num_groups, -1)
        if self.fault == "group maximum":
            of_group = grouped.max(axis=2)
        else:
            of_group = np.sort(grouped, axis=2)[:, :, -2:].sum(axis=2, dtype=F32)
        kept = self._best(of_group, rules.topk_groups, random)
        mask = np.full(of_group.shape, -np.inf, dtype=F32)
        np.put_along_axis(mask, kept, 0, axis=1)
        return (grouped + mask[:, :, None]).reshape(ranked.shape)


LEGAL = tuple(
    Router(exponential, ties, ranks_logits, reciprocal)
    for (exponential, ties), (ranks_logits, reciprocal) in itertools.product(
        (("correct", "lowest"), ("fast", "highest"), ("prescaled", "random"), ("fast", "lowest")),
        ((False, False), (True, True)),
    )
)

FAMILIES: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "normal": lambda random, t, e: random.standard_normal((t, e)) * 2,
    "wide": lambda random, t, e: random.standard_normal((t, e)) * 60,
    "near ties": lambda random, t, e: 1 + random.integers(-3, 4, (t, e)) * 2.0**-22,
    "ties": lambda random, t, e: random.integers(-2, 3, (t, e)) * 1.0,
    "all equal": lambda random, t, e: np.full((t, e), random.standard_normal()),
    "saturated": lambda random, t, e: random.standard_normal((t, e)) * 3 + 20,
    "very negative": lambda random, t, e: random.standard_normal((t, e)) * 2 - 120,
    "almost underflow": lambda random, t, e: random.standard_normal((t, e)) * 3 - 86,
    "negative infinity": lambda random, t, e: np.where(
        np.argsort(random.random((t, e)), axis=1) < e // 2, -np.inf, random.standard_normal((t, e))
    ),
}


def draw(
    random: np.random.Generator, family: str, *, dtype: str = "fp32"
) -> tuple[RouterInputs, Rules]:
    experts = int(random.choice([8, 16, 64, 128]))
    groups = int(random.choice([1, 1, 4]))
    kept = int(random.integers(1, groups + 1))
    scoring = str(random.choice(["softmax", "sigmoid"]))
    rules = Rules(
        top_k=int(random.choice([k for k in (1, 2, 4, 8) if k <= experts // groups * kept // 2])),
        scoring=scoring,
        renormalize=bool(random.integers(2)),
        num_groups=groups,
        topk_groups=kept,
        scaling_factor=float(random.choice([1.0, 2.5, 0.1])),
    )
    logits = FAMILIES[family](random, 12, experts)
    bias = (random.standard_normal(experts) * 0.1).astype(F32) if random.integers(2) else None
    stored = {"fp32": F32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}[dtype]
    return RouterInputs(logits.astype(F32).astype(stored), bias), rules


def judge(
    inputs: RouterInputs, rules: Rules, ids: np.ndarray, weights: np.ndarray, ties: bool = False
) -> list[RoutingViolation]:
    return judge_routing(inputs, ids, weights, **rules.__dict__, lowest_id_ties=ties)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(25))
def test_legal_routers_are_never_refused(family: str, seed: int) -> None:
    random = np.random.default_rng([seed, list(FAMILIES).index(family)])
    inputs, rules = draw(random, family, dtype=("fp32", "bf16", "fp16")[seed % 3])
    for router in LEGAL:
        with np.errstate(all="ignore"):
            ids, weights = router(inputs, rules, random)
        lost = ~np.isfinite(weights).all(axis=1)  # 0/0: a router must not return that
        violations = judge(inputs, rules, ids, weights)
        refused = [found for found in violations if not lost[found.row]]
        assert refused == [], f"{router}: {refused[0]}"
        assert {found.row for found in violations} == set(np.flatnonzero(lost).tolist())


@pytest.mark.parametrize("router", LEGAL[:4], ids=str)
def test_a_large_bias_swallows_differences_between_scores(router: Router) -> None:
    random = np.random.default_rng(0)
    logits = (random.standard_normal((16, 32)) * 1e-4).astype(F32)
    inputs = RouterInputs(logits, np.full(32, 1000, dtype=F32))
    rules = Rules(top_k=4, scoring="sigmoid", num_groups=4, topk_groups=2)
    assert judge(inputs, rules, *router(inputs, rules, random)) == []


FAULTS = {
    "next best": lambda rules, inputs: True,
    "repeated id": lambda rules, inputs: rules.top_k > 1,
    "bf16 logits": lambda rules, inputs: True,
    "bf16 scores": lambda rules, inputs: True,
    "bf16 weights": lambda rules, inputs: True,
    "bias ignored": lambda rules, inputs: inputs.correction_bias is not None,
    "biased": lambda rules, inputs: inputs.correction_bias is not None,
    "groups ignored": lambda rules, inputs: rules.topk_groups < rules.num_groups,
    "group maximum": lambda rules, inputs: 2 <= rules.topk_groups < rules.num_groups,
    "not renormalised": lambda rules, inputs: rules.renormalize,
    "sum with 1e-3": lambda rules, inputs: rules.renormalize,
    "not scaled": lambda rules, inputs: rules.scaling_factor != 1,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_where_they_change_the_answer(fault: str) -> None:
    changed = refused = 0
    for seed in range(60):
        random = np.random.default_rng([99, seed])
        inputs, rules = draw(random, "normal")
        if not FAULTS[fault](rules, inputs):
            continue
        right = Router()(inputs, rules, np.random.default_rng(0))
        wrong = Router(fault=fault)(inputs, rules, np.random.default_rng(0))
        same_ids = np.array_equal(right[0], wrong[0])
        if same_ids and np.allclose(right[1], wrong[1], rtol=1e-4, atol=0):
            continue
        changed += 1
        refused += bool(judge(inputs, rules, *wrong))
    assert changed >= 5
    assert refused == changed


def test_softmax_without_the_maximum_subtracted_is_refused() -> None:
    inputs = RouterInputs(np.full((3, 4), 100, dtype=F32) + np.arange(4, dtype=F32), None)
    with np.errstate(all="ignore"):
        routed = Router(fault="no maximum")(inputs, Rules(), np.random.default_rng(0))
    assert [found.row for found in judge(inputs, Rules(), *routed)] == [0, 1, 2]


def test_lowest_ids_are_demanded_of_equal_logits_alone() -> None:
    logits = np.array([[1, 2, 2, 0], [2, 1, 2, 2 - 2.0**-22]], dtype=F32)
    inputs, rules = RouterInputs(logits, None), Rules(top_k=1)
    ones = np.ones((2, 1), dtype=F32)
    low, high, near = (np.array(ids)[:, None] for ids in ([1, 0], [2, 2], [1, 3]))
    assert judge(inputs, rules, low, ones, ties=True) == []
    assert judge(inputs, rules, high, ones, ties=False) == []
    assert [(v.row, v.rule, v.expert) for v in judge(inputs, rules, high, ones, ties=True)] == [
        (0, "tie", 2),
        (1, "tie", 2),
    ]
    assert judge(inputs, rules, near, ones, ties=True) == []
    biased = replace(inputs, correction_bias=np.array([0, 0, 1e-7, 0], dtype=F32))
    assert judge(biased, rules, high, ones, ties=True) == []


def test_ties_between_groups_are_free() -> None:
    inputs = RouterInputs(np.ones((1, 4), dtype=F32), None)
    rules = Rules(top_k=1, num_groups=2, topk_groups=1)
    weights = np.ones((1, 1), dtype=F32)
    assert judge(inputs, rules, np.array([[2]]), weights, ties=True) == []
    (violation,) = judge(inputs, rules, np.array([[3]]), weights, ties=True)
    assert (violation.rule, violation.expert) == ("tie", 3)


@pytest.mark.parametrize(
    ("ids", "rule", "expert"),
    [
        ([0, 4], "id out of range", 4),
        ([-1, -1], "id out of range", -1),
        ([2**31 - 1, 0], "id out of range", 2**31 - 1),
        ([3, 3], "duplicate id", 3),
    ],
)
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf])
def test_ids_are_judged_in_every_row(ids: list[int], rule: str, expert: int, value: float) -> None:
    logits = np.array([[0, 1, 2, 3], [value] * 4], dtype=F32)
    weights = np.array([[0.26894143, 0.7310586], [0.5, 0.5]], dtype=F32)
    routed = np.array([[2, 3], ids])
    (violation,) = judge(RouterInputs(logits, None), Rules(), routed, weights)
    assert (violation.row, violation.rule, violation.expert) == (1, rule, expert)


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_without_scores_may_hold_any_distinct_ids(scoring: str, value: float) -> None:
    logits = np.array([[0, 1, 2, value], [-np.inf] * 4], dtype=F32)
    weights = np.full((2, 2), np.nan, dtype=F32)
    ids = np.array([[0, 2], [3, 1]])
    assert judge(RouterInputs(logits, None), Rules(scoring=scoring), ids, weights) == []


def test_negative_infinity_is_a_score_of_zero() -> None:
    logits = np.array([[-np.inf, 5, -np.inf, -np.inf]], dtype=F32)
    inputs, rules = RouterInputs(logits, None), Rules()
    weights = np.array([[1, 0]], dtype=F32)
    assert judge(inputs, rules, np.array([[1, 2]]), weights) == []
    (violation,) = judge(inputs, rules, np.array([[0, 2]]), weights)
    assert (violation.rule, violation.expert) == ("selection", 0)
    (violation,) = judge(inputs, rules, np.array([[1, 2]]), weights[:, ::-1])
    assert (violation.rule, violation.expert) == ("weight", 1)


def test_vanished_scores_leave_the_weights_free_within_the_scale() -> None:
    inputs = RouterInputs(np.full((1, 4), -200, dtype=F32), None)
    rules = Rules(scoring="sigmoid", scaling_factor=2.5)
    ids = np.array([[0, 1]])
    for weights in ([0, 0], [1.25, 1.25], [2.5, 0]):
        assert judge(inputs, rules, ids, np.array([weights], dtype=F32)) == []
    for weights in ([np.nan, 0], [np.inf, 0], [2.6, 0], [-0.1, 0]):
        (violation,) = judge(inputs, rules, ids, np.array([weights], dtype=F32))
        assert violation.rule == "weight"


def test_very_negative_logits_have_ordinary_softmax_weights() -> None:
    inputs = RouterInputs(np.array([[-120, -121, -122, -123]], dtype=F32), None)
    ids, right = np.array([[0, 1]]), np.array([[0.7310586, 0.26894143]], dtype=F32)
    assert judge(inputs, Rules(), ids, right) == []
    assert judge(inputs, Rules(), ids, np.array([[0.5, 0.5]], dtype=F32))[0].rule == "weight"
    assert judge(inputs, Rules(), ids, np.zeros((1, 2), dtype=F32))[0].rule == "weight"


def test_a_violation_names_row_expert_and_range() -> None:
    inputs = RouterInputs(np.array([[0, 1, 2, 3]], dtype=F32), None)
    weights = np.array([[0.5, 0.5]], dtype=F32)
    (violation,) = judge(inputs, Rules(), np.array([[3, 2]]), weights)
    assert str(violation).startswith("row 0, expert 3: weight; got 0.5, allowed [0.73105")


def test_no_tokens() -> None:
    inputs = RouterInputs(np.zeros((0, 8), dtype=F32), None)
    rules = Rules(num_groups=4, topk_groups=2)
    empty = np.zeros((0, 2))
    assert judge(inputs, rules, empty.astype(np.int32), empty, ties=True) == []


def test_wrong_shapes_and_scorings_are_errors() -> None:
    inputs = RouterInputs(np.zeros((3, 8), dtype=F32), None)
    right = np.zeros((3, 2), dtype=np.int32)
    with pytest.raises(ValueError, match=r"topk_ids must have shape \(3, 2\), got \(2, 3\)"):
        judge(inputs, Rules(), right.T, right)
    with pytest.raises(ValueError, match=r"topk_weights must have shape \(3, 2\)"):
        judge(inputs, Rules(), right, right[:2])
    with pytest.raises(ValueError, match="softmax or sigmoid, got 'tanh'"):
        judge(inputs, Rules(scoring="tanh"), right + np.arange(2), right)


def legal_by_enumeration(
    ranking: Ranking, chosen: np.ndarray, num_groups: int, topk_groups: int
) -> tuple[bool, float]:
    """For one row: some legal set of groups holds ``chosen``; the least best one left out."""
    groups = ranking.of_groups(num_groups)
    group_of = np.arange(chosen.shape[1]) // (chosen.shape[1] // num_groups)
    least = np.inf
    exists = False
    for inside in itertools.combinations(range(num_groups), topk_groups):
        outside = [group for group in range(num_groups) if group not in inside]
        eligible = np.isin(group_of, inside)
        legal = not outside or (
            groups.upper[0, list(inside)].min() >= groups.lower[0, outside].max()
        )
        if legal and not (chosen[0] & ~eligible).any():
            exists = True
            left = ranking.lower[0, eligible & ~chosen[0]]
            least = min(least, left.max(initial=-np.inf))
    return exists, least


@pytest.mark.parametrize("seed", range(200))
def test_group_choices_agree_with_enumeration(seed: int) -> None:
    random = np.random.default_rng(seed)
    num_groups = int(random.integers(1, 6))
    size = int(random.integers(1, 4))
    topk_groups = int(random.integers(1, num_groups + 1))
    experts = num_groups * size
    value = random.integers(0, 6, (1, experts)).astype(np.float64)
    error = random.integers(0, 2, (1, experts)) * 0.5
    ranking = Ranking(value - error, value + error)
    chosen = np.zeros((1, experts), dtype=bool)
    best_first = np.argsort(-value[0] + random.integers(0, 3, experts))
    chosen[0, best_first[: random.integers(1, size + 1)]] = True
    found = group_choices(ranking, chosen, num_groups=num_groups, topk_groups=topk_groups)
    exists, least = legal_by_enumeration(ranking, chosen, num_groups, topk_groups)
    assert found.exists[0] == exists
    if exists:
        assert found.best_left_out[0] == least


def test_normalised_range_is_the_range_over_all_corners() -> None:
    random = np.random.default_rng(5)
    for _ in range(50):
        lower = random.random((1, 3)) * random.integers(0, 2, (1, 3))
        upper = lower + random.random((1, 3))
        corners = np.array(list(itertools.product(*zip(lower[0], upper[0], strict=True))))
        corners = corners[corners.sum(axis=1) > 0]
        quotients = corners / corners.sum(axis=1, keepdims=True)
        least, most = normalised(lower, upper)
        if lower.sum() > 0:
            np.testing.assert_allclose(least[0], quotients.min(axis=0), rtol=1e-12)
            np.testing.assert_allclose(most[0], quotients.max(axis=0), rtol=1e-12)
        else:
            assert (least == 0).all()
            assert (most == 1).all()


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_score_errors_are_small(scoring: str) -> None:
    """The bound is a few dozen roundings, so that a router in 16 bits is told apart."""
    logits = np.random.default_rng(0).standard_normal((16, 64)) * 2
    score, error = router_scores(logits, scoring)
    assert (error / score < 2.0**-16).all()
