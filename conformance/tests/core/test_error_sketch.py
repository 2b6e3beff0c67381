"""A sketch says the same of the same output, and something else of any other."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from moeproof.case_id import parse_case_id
from moeproof.devices import Device
from moeproof.error_sketch import ErrorSketch, sketch_output, sums_of_z
from moeproof.implementation import load_implementation
from moeproof.judge import judge, make_trial
from moeproof.number_format import STORAGE_FORMATS

CASE = "T33-H64-I48-E8-K2-{}/zipf/random/contiguous/7"


def output(dtype: str = "bf16", seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((33, 64))
    return values.astype(STORAGE_FORMATS[dtype].numpy_dtype)


def sketch(values: np.ndarray) -> ErrorSketch:
    return sketch_output(values, error_ratio=np.zeros(values.shape))


@pytest.mark.parametrize("dtype", STORAGE_FORMATS)
def test_one_changed_output_changes_the_digest(dtype):
    values = output(dtype)
    other = values.copy()
    other[17, 3] = np.nextafter(np.float32(other[17, 3]), np.float32(9)) * 1.01
    assert sketch(values) == sketch(values.copy(order="F"))
    assert sketch(values).digest != sketch(other).digest


def test_both_zeros_are_one():
    values = output("fp32")
    values[0, 0] = 0.0
    other = values.copy()
    other[0, 0] = -0.0
    assert sketch(values) == sketch(other)


def test_samples_are_bits_of_the_output():
    values = output("bf16")
    known = {f"{bits:04x}" for bits in values.view(np.uint16).reshape(-1)}
    sampled = sketch(values).sampled_bits()
    assert len(sampled) == 48
    assert set(sampled) <= known
    assert len(set(sampled)) > 40
    assert sketch(values[:1, :5]).sampled_bits() != ()
    assert sketch(values[:0]).sampled_bits() == ()
    assert sketch(values[:0]).worst_token == -1


def test_sums_are_over_blocks_of_tokens():
    z = np.array([[1.0, -2.0], [math.nan, 9.0], [0.5, 0.5]])
    sign = np.array([[1.0, 1.0], [1.0, -1.0], [1.0, -1.0]])
    counted = np.array([[True, True], [True, True], [True, False]])
    sums = sums_of_z(z, sign=sign, counted=counted)
    assert sums == ((2, 2, 1), (5.0, 32.0, 0.25), (-1.0, 0.0, 0.5))


@pytest.mark.parametrize("dtype", STORAGE_FORMATS)
def test_an_accuracy_verdict_carries_a_small_sketch(dtype):
    case = parse_case_id(CASE.format(dtype))
    verdict = judge(make_trial(case, load_implementation("torch_eager"), Device("cpu")), "accuracy")
    evidence = json.loads(json.dumps(verdict.evidence["errors"]))
    assert len(json.dumps(evidence)) < 1000
    found = ErrorSketch.from_evidence(evidence)
    assert found.to_evidence() == verdict.evidence["errors"]
    assert sum(found.counts) == 33 * 64
    assert 0 < sum(found.squares) / sum(found.counts) < 1.2


def test_without_random_signs_there_are_no_sums():
    case = parse_case_id("T33-H64-I48-E8-K2-bf16/uniform/exact_up/contiguous/7")
    verdict = judge(make_trial(case, load_implementation("torch_eager"), Device("cpu")), "accuracy")
    assert ErrorSketch.from_evidence(verdict.evidence["errors"]).counts == ()


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"digest": "0"},
        {"digest": "0", "sample": "abc", "sample_width": 2, "worst_token": 0},
        {"digest": "0", "sample": "", "sample_width": 0, "worst_token": 0},
        {"digest": "0", "sample": "", "sample_width": 2, "worst_token": 0, "counts": [1]},
        {"digest": "0", "sample": "", "sample_width": 2, "worst_token": 0, "more": 1},
        "text",
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(ValueError, match="no error sketch"):
        ErrorSketch.from_evidence(data)
