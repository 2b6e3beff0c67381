"""Known changes of the inputs, and what each must do to the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.case import Case, Layout, ValueFamily
from moeproof.inputs import ExpertInputs
from moeproof.random_source import RandomSource
from moeproof.routing_pattern import find_pattern

Array = NDArray[Any]
_ORDINARY_RANGE = frozenset({ValueFamily.RANDOM, ValueFamily.PER_EXPERT, ValueFamily.CANCELLING})


@dataclass(frozen=True)
class Transformed:
    """Changed inputs, and what their output must be.

    Attributes:
        inputs: the changed inputs.
        expected: the right output on them, from the right output on what they are compared with.
        compared_with: other inputs to compare with than the case's own.
    """

    inputs: ExpertInputs
    expected: Callable[[Array], Array]
    compared_with: ExpertInputs | None = None


@dataclass(frozen=True)
class Relation:
    """A change with a known effect.

    Attributes:
        name, summary: for messages.
        transform: (inputs, case) -> Transformed.
        fits: whether a case can be changed so.
        needs: capabilities, beside ``deterministic``, under which the effect holds bit for bit.
        bitwise: whether the effect is free of rounding for a case.
    """

    name: str
    summary: str
    transform: Callable[[ExpertInputs, Case], Transformed]
    fits: Callable[[Case], bool]
    needs: tuple[str, ...] = ()
    bitwise: Callable[[Case], bool] = lambda case: True


def _random(case: Case) -> RandomSource:
    return RandomSource(case.case_id, "relation")


def _new_order(case: Case, length: int) -> NDArray[np.int64]:
    """A random order of at least two things that moves some of them."""
    order = _random(case).permutations(1, length)[0]
    moves = (order != np.arange(length)).any()
    return order if moves else np.roll(order, 1)


def _permute_tokens(inputs: ExpertInputs, case: Case) -> Transformed:
    order = _new_order(case, case.problem.num_tokens)
    changed = replace(
        inputs,
        hidden_states=inputs.hidden_states[order],
        topk_ids=inputs.topk_ids[order],
        topk_weights=inputs.topk_weights[order],
    )
    return Transformed(changed, lambda output: output[order])


def _repeat_tokens(inputs: ExpertInputs, case: Case) -> Transformed:
    rows = np.concatenate([np.arange(case.problem.num_tokens)] * 2)
    changed = replace(
        inputs,
        hidden_states=inputs.hidden_states[rows],
        topk_ids=inputs.topk_ids[rows],
        topk_weights=inputs.topk_weights[rows],
    )
    return Transformed(changed, lambda output: output[rows])


def _split_batch(inputs: ExpertInputs, case: Case) -> Transformed:
    half = (case.problem.num_tokens + 1) // 2
    changed = replace(
        inputs,
        hidden_states=inputs.hidden_states[:half],
        topk_ids=inputs.topk_ids[:half],
        topk_weights=inputs.topk_weights[:half],
    )
    return Transformed(changed, lambda output: output[:half])


def _relabel_experts(inputs: ExpertInputs, case: Case) -> Transformed:
    experts = case.problem.num_experts
    order = _new_order(case, experts)
    new_label = np.argsort(order).astype(np.int32)
    ids = inputs.topk_ids
    inside = (ids >= 0) & (ids < experts)
    relabelled = np.where(inside, new_label[np.where(inside, ids, 0)], ids).astype(np.int32)
    changed = replace(
        inputs,
        gate_up_proj=inputs.gate_up_proj[order],
        down_proj=inputs.down_proj[order],
        topk_ids=relabelled,
    )
    return Transformed(changed, _same)


def _double_up(inputs: ExpertInputs, case: Case) -> Transformed:
    scale = np.ones((2 * case.problem.intermediate_size, 1))
    scale[case.problem.intermediate_size :] = 2.0
    doubled = (inputs.gate_up_proj.astype(np.float64) * scale).astype(inputs.gate_up_proj.dtype)
    return Transformed(replace(inputs, gate_up_proj=doubled), _twice)


def _double_down(inputs: ExpertInputs, case: Case) -> Transformed:
    doubled = (inputs.down_proj.astype(np.float64) * 2.0).astype(inputs.down_proj.dtype)
    return Transformed(replace(inputs, down_proj=doubled), _twice)


def _double_weights(inputs: ExpertInputs, case: Case) -> Transformed:
    return Transformed(replace(inputs, topk_weights=inputs.topk_weights * np.float32(2)), _twice)


def _twice(output: Array) -> Array:
    return np.asarray(output.astype(np.float64) * 2.0)


def _drop_slots(inputs: ExpertInputs, case: Case) -> Transformed:
    """One slot of every token with weight 0, against the same slot with id -1."""
    slots = _random(case).integers(0, case.problem.top_k, (case.problem.num_tokens,))
    rows = np.arange(case.problem.num_tokens)
    weights = inputs.topk_weights.copy()
    weights[rows, slots] = 0.0
    ids = inputs.topk_ids.copy()
    ids[rows, slots] = -1
    zeroed = replace(inputs, topk_weights=weights)
    return Transformed(zeroed, _same, compared_with=replace(inputs, topk_ids=ids))


def _change_idle_experts(inputs: ExpertInputs, case: Case) -> Transformed:
    """Other values for idle experts: finite, since 0 * NaN is legal where all are computed."""
    idle = np.setdiff1d(np.arange(case.problem.num_experts), inputs.topk_ids)
    gate_up, down = inputs.gate_up_proj.copy(), inputs.down_proj.copy()
    gate_up[idle] = -gate_up[idle]
    down[idle] = -down[idle]
    return Transformed(replace(inputs, gate_up_proj=gate_up, down_proj=down), _same)


def _same(output: Array) -> Array:
    return output


def _any_case(case: Case) -> bool:
    return True


def _several_tokens(case: Case) -> bool:
    return case.problem.num_tokens > 1


def _several_experts(case: Case) -> bool:
    return case.problem.num_experts > 1


def _has_idle_experts(case: Case) -> bool:
    problem = case.problem
    pattern, _ = find_pattern(case.pattern)
    spare = problem.num_experts > problem.num_tokens * problem.top_k
    choice = problem.num_experts > problem.top_k or pattern.masked
    return spare or (choice and "empty experts" in pattern.meets)


def _ordinary_range(case: Case) -> bool:
    return case.values in _ORDINARY_RANGE


def _not_far(case: Case) -> bool:
    return case.layout is not Layout.FAR_APART


def _no_subnormals(case: Case) -> bool:
    """fp16 has intermediates below 2**-14 even on ordinary values; doubling rounds them anew."""
    return case.problem.format.min_exponent == -126


RELATIONS: tuple[Relation, ...] = (
    Relation(
        "token permutation",
        "rows move, their results move along",
        _permute_tokens,
        _several_tokens,
        needs=("position_invariant",),
    ),
    Relation(
        "idle experts",
        "weights of experts nobody chose change, nothing else does",
        _change_idle_experts,
        _has_idle_experts,
    ),
    Relation(
        "expert relabelling",
        "experts are renumbered, the ids with them",
        _relabel_experts,
        _several_experts,
        needs=("expert_invariant", "position_invariant"),
    ),
    Relation(
        "doubled up projection",
        "the output doubles",
        _double_up,
        _ordinary_range,
        bitwise=_no_subnormals,
    ),
    Relation(
        "repeated tokens",
        "every token twice, every result twice",
        _repeat_tokens,
        _not_far,
        needs=("position_invariant", "batch_invariant"),
    ),
    Relation(
        "doubled routing weights",
        "the output doubles",
        _double_weights,
        _ordinary_range,
        bitwise=_no_subnormals,
    ),
    Relation(
        "batch split",
        "the first half of the tokens alone",
        _split_batch,
        _several_tokens,
        needs=("position_invariant", "batch_invariant"),
    ),
    Relation(
        "dropped slots",
        "a slot of weight 0 equals a slot of id -1",
        _drop_slots,
        _any_case,
        needs=("masked_ids", "position_invariant", "batch_invariant"),
    ),
    Relation(
        "doubled down projection",
        "the output doubles",
        _double_down,
        _ordinary_range,
        bitwise=_no_subnormals,
    ),
)
