"""The exact check holds every run against the frozen bits, and says what the output's were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from moeproof import trial as trials
from moeproof.case import Case, Layout
from moeproof.devices import Device
from moeproof.frozen_vectors import frozen_vectors
from moeproof.implementation import Capabilities, Implementation, load_implementation
from moeproof.judge import judge
from moeproof.trial import Trial
from moeproof.verdict import Outcome, Verdict

FROZEN = {vector.name: vector for vector in frozen_vectors().values()}
VECTOR = FROZEN["tails-exact_gate-bf16"]
NOT_FROZEN = "T9-H24-I20-E4-K2-fp32/uniform/exact_up/contiguous/0"
RIGHT = load_implementation("torch_eager").fused_experts
Experts = Callable[..., torch.Tensor]
CLAIMS = Capabilities(layouts=frozenset(Layout), masked_ids=True, subnormals=True)


def verdict(case_id: str, experts: Experts = RIGHT) -> Verdict:
    implementation = Implementation("subject", experts, capabilities=CLAIMS)
    return judge(Trial(Case.parse(case_id), implementation, Device("cpu")), "exact")


@pytest.mark.parametrize("vector", FROZEN.values(), ids=lambda vector: vector.name)
def test_a_right_implementation_gives_the_frozen_bits(vector) -> None:
    result = verdict(vector.case_id)
    assert result.outcome is Outcome.PASS, result.message
    assert result.evidence["output_digest"] == vector.output_digest


def test_other_inputs_than_the_frozen_ones_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    make = trials.make_inputs

    def other(case: Case) -> object:
        made = make(case)
        return replace(made, topk_weights=made.topk_weights * np.float32(2))

    monkeypatch.setattr(trials, "make_inputs", other)
    result = verdict(VECTOR.case_id)
    assert result.outcome is Outcome.ERROR
    assert "this machine generates other inputs than the frozen ones" in result.message


def test_the_frozen_bits_decide_and_not_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = VECTOR.output_bits()
    bits[3, 4] ^= 1
    monkeypatch.setattr(type(VECTOR), "output_bits", lambda self: bits)
    result = verdict(VECTOR.case_id)
    assert result.outcome is Outcome.FAIL
    assert "1 of 1105 elements differ from the exact result; token 3, column 4" in result.message


@pytest.mark.parametrize("case_id", [VECTOR.case_id, NOT_FROZEN])
def test_one_bit_more_is_another_digest(case_id: str) -> None:
    def one_bit_more(*arguments: torch.Tensor) -> torch.Tensor:
        output = RIGHT(*arguments)
        output[0, 0] = output[0, 0].nextafter(torch.tensor(1e4, dtype=output.dtype))
        return output

    right, wrong = verdict(case_id), verdict(case_id, one_bit_more)
    assert (right.outcome, wrong.outcome) == (Outcome.PASS, Outcome.FAIL)
    assert right.evidence["output_digest"] != wrong.evidence["output_digest"]


def test_zeros_of_the_other_sign_are_the_same_answer() -> None:
    def negative_zeros(*arguments: torch.Tensor) -> torch.Tensor:
        output = RIGHT(*arguments)
        return torch.where(output == 0, -torch.zeros_like(output), output)

    masked = FROZEN["masked_tokens-exact_operands-fp16"]
    result = verdict(masked.case_id, negative_zeros)
    assert result.outcome is Outcome.PASS
    assert result.evidence["output_digest"] == masked.output_digest


def test_tf32_is_caught_by_the_operands_of_13_bits() -> None:
    def cut(values: torch.Tensor) -> torch.Tensor:
        return (values.view(torch.int32) & -(2**13)).view(torch.float32)

    def through_tf32(x: torch.Tensor, gate_up: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return RIGHT(cut(x), cut(gate_up), *rest)

    names = [name for name in FROZEN if name.endswith("exact_operands-fp32")]
    assert len(names) == 3
    for name in names:
        assert verdict(FROZEN[name].case_id, through_tf32).outcome is Outcome.FAIL, name


def test_a_case_whose_values_hide_errors_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit equality sees nothing either where a token's experts give zeros."""
    make = trials.make_inputs

    def dead(case: Case) -> object:
        made = make(case)
        down = made.down_proj.copy()
        down[made.topk_ids[2]] = 0
        return replace(made, down_proj=down)

    monkeypatch.setattr(trials, "make_inputs", dead)
    result = verdict(NOT_FROZEN)
    assert result.outcome is Outcome.ERROR
    assert result.message.startswith("VacuousCaseError: zeros in row ")


def test_an_inexact_case_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routing weights that are no powers of two need more bits than bf16 has."""
    make = trials.make_inputs

    def uneven(case: Case) -> object:
        made = make(case)
        return replace(made, topk_weights=made.topk_weights * np.float32(1 + 2.0**-5))

    monkeypatch.setattr(trials, "make_inputs", uneven)
    result = verdict(NOT_FROZEN.replace("fp32", "bf16"))
    assert result.outcome is Outcome.ERROR
    assert result.message.startswith("InexactCaseError")
