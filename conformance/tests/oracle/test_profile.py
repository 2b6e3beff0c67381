from __future__ import annotations

import json

import pytest

from moeproof.oracle import UNDECLARED, RoundingProfile, candidate_profiles


def test_names_are_read_back() -> None:
    profiles = [
        UNDECLARED,
        RoundingProfile(tf32=True, accumulator="fma"),
        RoundingProfile("yes", "no", "maybe", "yes", "after", combine_in_output_dtype=True),
        *candidate_profiles(),
    ]
    for profile in profiles:
        assert RoundingProfile.parse(profile.name) == profile
        assert RoundingProfile(**json.loads(profile.to_json())) == profile
    assert len({profile.name for profile in profiles}) == len(profiles)


def test_name_says_what_differs() -> None:
    assert UNDECLARED.name == "undeclared"
    assert RoundingProfile(intermediate="yes", tf32=True).name == "intermediate=yes,tf32=true"


def test_candidates_declare_every_point_and_differ() -> None:
    candidates = candidate_profiles()
    assert len(candidates) == len(set(candidates)) == 144
    points = ("gate_up", "silu", "intermediate", "expert_output")
    assert all(getattr(each, point) != "maybe" for each in candidates for point in points)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "KEY=VALUE"),
        ("rounds", "KEY=VALUE"),
        ("colour=yes", "gate_up"),
        ("silu=yes,silu=no", "once"),
        ("silu=always", "silu must be one of"),
        ("tf32=yes", "tf32 must be one of"),
    ],
)
def test_other_texts_are_refused(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RoundingProfile.parse(text)
