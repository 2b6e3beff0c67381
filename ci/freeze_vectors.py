"""Freeze the exact cases' answers into fixtures/vectors, or check those that are there.

    python ci/freeze_vectors.py write
    python ci/freeze_vectors.py check

The answers come from integer arithmetic (moeproof.exact_arithmetic), never from the oracle. A
change of any file is a change of what every vendor is held against: say why in the commit.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from moeproof.case import Case, Layout, ValueFamily
from moeproof.digests import input_digest, output_digest
from moeproof.exact_arithmetic import exact_output_bits
from moeproof.frozen_vectors import INDEX, SUMS, FrozenVector, sums_of
from moeproof.inputs import make_inputs
from moeproof.number_format import STORAGE_FORMATS
from moeproof.problem import Problem

VECTORS = Path(__file__).resolve().parents[1] / "fixtures" / "vectors"
FAMILIES = tuple(family for family in ValueFamily if family.is_exact)

# Every family in every dtype: name, what is special, sizes, seed.
_ALL = (
    ("several_tiles", "sizes that are no multiple of a tile", "T18-H72-I40-E7-K3", 2),
    ("long_sums", "sums of more than 128 products", "T3-H320-I272-E3-K2", 2),
)
# Each with one family and dtype, so that all pairs have their turn: name, what is special, sizes,
# pattern, layout.
_EDGES = (
    ("empty_first", "expert 0 gets nothing", "T18-H24-I20-E8-K2", "empty_first"),
    ("empty_middle", "the middle expert gets nothing", "T18-H24-I20-E7-K2", "empty_middle"),
    ("one_group", "all tokens to the last experts", "T35-H24-I20-E9-K2", "only_last"),
    ("masked_slots", "a third of the ids is -1", "T18-H24-I20-E6-K3", "masked_slots"),
    ("masked_tokens", "whole tokens are -1", "T18-H24-I20-E6-K3", "masked_tokens"),
    ("past_end", "ids past the last expert", "T18-H24-I20-E6-K3", "masked_past_end"),
    ("tails", "one past a tile along every axis, top-1", "T17-H65-I33-E5-K1", "uniform"),
    ("experts_257", "ids of 256 and more", "T9-H24-I20-E257-K4", "high_ids"),
    ("experts_1025", "ids of 1024 and more", "T4-H16-I12-E1025-K2", "only_last"),
    ("duplicates", "a token names an expert twice", "T9-H24-I20-E4-K3", "duplicates"),
    ("tile_edges", "groups of 15, 16, 17, ... rows", "T65-H33-I31-E4-K2", "tile_edges"),
    ("one_token", "a single token, all experts", "T1-H129-I65-E8-K8", "uniform"),
    ("smallest", "the smallest sizes", "T2-H3-I1-E1-K1", "uniform"),
    ("local_half", "half of the experts are elsewhere", "T18-H24-I20-E8-K4", "local_half"),
    ("row_padded", "rows lie apart in memory", "T17-H40-I24-E6-K3", "zipf"),
)


def frozen_cases() -> Iterator[tuple[str, str, Case]]:
    """Name, summary and case of every vector."""
    for name, summary, sizes, seed in _ALL:
        for dtype in STORAGE_FORMATS:
            for family in FAMILIES:
                case = Case(Problem.parse(f"{sizes}-{dtype}"), "uniform", family, seed=seed)
                yield f"{name}-{family.value}-{dtype}", summary, case
    for turn, (name, summary, sizes, pattern) in enumerate(_EDGES):
        family = FAMILIES[turn % len(FAMILIES)]
        dtype = tuple(STORAGE_FORMATS)[turn % len(STORAGE_FORMATS)]
        layout = Layout.ROW_PADDED if name == Layout.ROW_PADDED.value else Layout.CONTIGUOUS
        case = Case(Problem.parse(f"{sizes}-{dtype}"), pattern, family, layout)
        yield f"{name}-{family.value}-{dtype}", summary, case


def freeze(directory: Path) -> None:
    """Compute every answer and write all files into a folder; others in it are removed."""
    directory.mkdir(exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    index = []
    for name, summary, case in frozen_cases():
        inputs = make_inputs(case)
        bits = exact_output_bits(inputs, case.problem.format)
        digests = input_digest(inputs.arrays()), output_digest(bits)
        vector = FrozenVector(name, summary, case.case_id, *digests)
        index.append(asdict(vector))
        little_endian = bits.astype(bits.dtype.newbyteorder("<"))
        np.save(directory / vector.file_name, little_endian, allow_pickle=False)
    (directory / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    (directory / SUMS).write_text(sums_of(directory), encoding="utf-8")


def differences(directory: Path) -> list[str]:
    """Names of the files that are not as this machine would write them."""
    with tempfile.TemporaryDirectory() as fresh:
        freeze(Path(fresh))
        contents = [
            {path.name: path.read_bytes() for path in folder.iterdir()}
            for folder in (directory, Path(fresh))
        ]
    there, wanted = contents
    return sorted(
        name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name)
    )


def main() -> int:
    """Parse the command line; 1 if a check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("write", "check"))
    if parser.parse_args().action == "write":
        freeze(VECTORS)
        return 0
    differing = differences(VECTORS)
    for name in differing:
        print(f"differs: {VECTORS / name}", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
