"""Frozen vectors are found, cover what they promise, and cannot be changed unnoticed."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from moeproof import frozen_vectors as module
from moeproof import profiles
from moeproof.case import Case, ValueFamily
from moeproof.digests import bits_of, input_digest, output_digest
from moeproof.exact_arithmetic import exact_output_bits
from moeproof.frozen_vectors import (
    FrozenVector,
    TamperedVectorsError,
    frozen_vectors,
    require_untouched,
    vectors_directory,
)
from moeproof.inputs import make_inputs
from moeproof.number_format import STORAGE_FORMATS

VECTORS = list(frozen_vectors().values())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_integers_give_the_frozen_answer(vector: FrozenVector) -> None:
    case = Case.parse(vector.case_id)
    inputs = make_inputs(case)
    bits = exact_output_bits(inputs, case.problem.format)
    assert input_digest(inputs.arrays()) == vector.input_digest
    assert output_digest(bits) == vector.output_digest
    assert np.array_equal(bits, vector.output_bits())


def test_every_exact_family_in_every_dtype_is_frozen() -> None:
    cases = [Case.parse(vector.case_id) for vector in VECTORS]
    families = [family for family in ValueFamily if family.is_exact]
    frozen = {(case.values, case.problem.dtype) for case in cases}
    assert frozen == {(family, dtype) for family in families for dtype in STORAGE_FORMATS}
    assert {case.problem.top_k for case in cases} >= {1, 2, 3, 8}
    assert {case.problem.num_experts for case in cases} >= {1, 257, 1025}
    assert {"empty_first", "masked_slots", "masked_past_end", "duplicates", "tile_edges"} <= {
        case.pattern for case in cases
    }


def test_the_quick_profile_has_them_all() -> None:
    planned = {entry.case.case_id for entry in profiles.plan("quick", "cpu")}
    assert set(frozen_vectors()) <= planned


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in vectors_directory().iterdir()) < 2**20


def test_zeros_of_either_sign_have_the_same_digest() -> None:
    zeros = np.array([[0.0, 1.0]], dtype=np.float16), np.array([[-0.0, 1.0]], dtype=np.float16)
    assert output_digest(bits_of(zeros[0])) == output_digest(bits_of(zeros[1]))
    assert output_digest(bits_of(zeros[0])) != output_digest(bits_of(zeros[0].T))
    assert input_digest({"x": zeros[0]}) != input_digest({"x": zeros[1]})


def test_a_digest_is_plain_sha256() -> None:
    """What another language has to hash to come to the same digest."""
    output = np.array([[1.0, -0.0]], dtype=np.float32)
    content = b"output 4 1 2\n" + bytes.fromhex("0000803f00000000")
    assert output_digest(bits_of(output)) == hashlib.sha256(content).hexdigest()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(vectors_directory(), tmp_path / "vectors"))


def test_an_untouched_folder_is_accepted(copied: Path) -> None:
    require_untouched(copied)


def _flip_a_bit(folder: Path) -> str:
    path = folder / VECTORS[0].file_name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path.name


def _remove(folder: Path) -> str:
    path = folder / VECTORS[1].file_name
    path.unlink()
    return path.name


def _add(folder: Path) -> str:
    (folder / "another.npy").write_bytes(b"")
    return "another.npy"


def _change_the_index(folder: Path) -> str:
    path = folder / module.INDEX
    path.write_text(path.read_text().replace(VECTORS[0].output_digest, VECTORS[1].output_digest))
    return path.name


@pytest.mark.parametrize("tamper", [_flip_a_bit, _remove, _add, _change_the_index])
def test_a_touched_folder_is_refused_by_name(tamper: object, copied: Path) -> None:
    name = tamper(copied)  # type: ignore[operator]
    with pytest.raises(TamperedVectorsError, match=re.escape(name)):
        require_untouched(copied)
