"""The real models' shapes: read as they are, refused with the file's and the field's name."""

from __future__ import annotations

import json

import pytest

from moeproof.case import Case
from moeproof.fixture_files import fixtures_directory
from moeproof.model_shapes import model_shapes, read_model_shape

MODELS = fixtures_directory() / "models"
# Layers with experts (DeepSeek-V3's first three have none, nor has every second of Llama-4's) and
# the billions of parameters that the model's makers give for the whole model.
LAYERS_AND_BILLIONS = {
    "Mixtral-8x7B": (32, 46.7),
    "Mixtral-8x22B": (56, 141),
    "Qwen2-57B-A14B": (28, 57.4),
    "Qwen3-30B-A3B": (48, 30.5),
    "Qwen3-235B-A22B": (94, 235),
    "DeepSeek-V3": (58, 671),
    "gpt-oss-120b": (36, 117),
    "OLMoE-1B-7B": (16, 6.9),
    "Llama-4-Maverick": (24, 400),
}


def test_there_is_a_shape_for_each_model():
    assert set(model_shapes()) == set(LAYERS_AND_BILLIONS)


@pytest.mark.parametrize("name", LAYERS_AND_BILLIONS)
def test_the_experts_are_most_of_the_model(name):
    shape = model_shapes()[name]
    layers, billions = LAYERS_AND_BILLIONS[name]
    intermediate = shape.num_experts * shape.intermediate_size + shape.shared_intermediate_size
    experts = layers * 3 * shape.hidden_size * intermediate
    assert 0.92 < experts / (billions * 1e9) < 0.99


def test_problems_carry_the_models_sizes():
    shape = model_shapes()["DeepSeek-V3"]
    assert shape.problem(5).name == "T5-H7168-I2048-E256-K8-bf16"
    assert shape.problem(5, dtype="fp16").name == "T5-H7168-I2048-E256-K8-fp16"
    assert shape.scaled_problem(5).name == "T5-H56-I24-E256-K8-bf16"
    assert shape.router_problem(5).name == (
        "route-T5-E256-K8-sigmoid-renormalized-bias-G8x4-scale2.5-fp32"
    )
    assert shape.router_case(5).problem == shape.router_problem(5)


@pytest.mark.parametrize("name", LAYERS_AND_BILLIONS)
def test_scaled_problems_leave_tails_in_every_tile(name):
    scaled = model_shapes()[name].scaled_problem(5)
    assert scaled.hidden_size % 32
    assert scaled.intermediate_size % 16
    Case(scaled, "zipf")


def _spoilt(tmp_path, **changes):
    content = json.loads((MODELS / "DeepSeek-V3.json").read_text())
    content.update(changes)
    path = tmp_path / "Spoilt.json"
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": None}, r"Spoilt.json: .*'top_k' is a required property"),
        ({"hidden_sise": 8}, r"Spoilt.json: .*'hidden_sise' was unexpected"),
        ({"num_experts": "256"}, r"Spoilt.json: num_experts: '256' is not of type 'integer'"),
        ({"num_experts": True}, r"Spoilt.json: num_experts: True is not of type 'integer'"),
        ({"dtype": "fp8"}, r"Spoilt.json: dtype: 'fp8' is not one of \['bf16', 'fp16', 'fp32'\]"),
        ({"intermediate_size": 0}, r"Spoilt.json: intermediate_size: 0 is less than the minimum"),
        (
            {"scaled": {"hidden_size": 8, "intermediate_size": -1}},
            r"Spoilt.json: scaled.intermediate_size: -1 is less than the minimum",
        ),
        ({"num_groups": 7}, r"Spoilt.json: num_groups must divide num_experts 256, got 7"),
        ({"top_k": 257}, r"Spoilt.json: top_k must be in \[1, 128\], got 257"),
    ],
)
def test_a_spoilt_file_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_model_shape(_spoilt(tmp_path, **changes))
