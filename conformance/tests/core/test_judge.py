"""An exception's verdict says where in the implementation it came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moeproof.case_id import parse_case_id
from moeproof.devices import Device
from moeproof.implementation import Implementation
from moeproof.judge import judge, make_trial
from moeproof.verdict import Outcome

CASE = "T9-H24-I20-E4-K2-fp32/uniform/random/contiguous/0"


def raises_inside_torch(hidden_states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(hidden_states, hidden_states.new_zeros(5, 5))


def takes_too_few(hidden_states: torch.Tensor) -> torch.Tensor:
    return hidden_states


@pytest.mark.parametrize("check", ["accuracy", "memory"])  # memory puts a layer of ours round torch
def test_the_implementations_own_line_is_named(check: str) -> None:
    implementation = Implementation("subject", raises_inside_torch)
    verdict = judge(make_trial(parse_case_id(CASE), implementation, Device("cpu")), check)
    assert verdict.outcome is Outcome.ERROR
    line = raises_inside_torch.__code__.co_firstlineno + 1
    assert verdict.message.endswith(f"({Path(__file__)}:{line})")


def test_a_call_that_never_arrives_names_the_innermost_line() -> None:
    implementation = Implementation("subject", takes_too_few)
    verdict = judge(make_trial(parse_case_id(CASE), implementation, Device("cpu")), "accuracy")
    assert "takes_too_few() takes 1 positional argument but 5 were given" in verdict.message
    assert "trial.py:" in verdict.message
