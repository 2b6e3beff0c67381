"""Frozen answers: exact cases whose inputs and right outputs are known to the bit.

``fixtures/vectors`` holds ``vectors.json``, one ``.npy`` file of bit patterns for each vector, and
``SHA256SUMS`` over them all, which ``sha256sum --check`` reads as well. ``ci/freeze_vectors.py``
writes them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moeproof.fixture_files import fixtures_directory

SUMS = "SHA256SUMS"
INDEX = "vectors.json"


class TamperedVectorsError(Exception):
    """The files of frozen vectors are not those that were frozen."""


@dataclass(frozen=True)
class FrozenVector:
    """One exact case with its answer.

    Attributes:
        name: of its file, without the ending.
        summary: what is special about the case.
        case_id: the case.
        input_digest: :func:`moeproof.digests.input_digest` of the five arguments.
        output_digest: :func:`moeproof.digests.output_digest` of the right output.
    """

    name: str
    summary: str
    case_id: str
    input_digest: str
    output_digest: str

    @property
    def file_name(self) -> str:
        """Of the right output's bit patterns."""
        return f"{self.name}.npy"

    def output_bits(self) -> NDArray[Any]:
        """The right output's bit patterns (T, H), unsigned integers as wide as the format."""
        return np.asarray(np.load(vectors_directory() / self.file_name, allow_pickle=False))


def vectors_directory() -> Path:
    """Where the frozen vectors lie."""
    return fixtures_directory() / "vectors"


@cache
def frozen_vectors() -> dict[str, FrozenVector]:
    """Every frozen vector by its case id, once the files have proved to be unchanged.

    Raises:
        TamperedVectorsError: a file is missing, changed or not in the list of sums.
    """
    directory = vectors_directory()
    require_untouched(directory)
    entries = json.loads((directory / INDEX).read_text(encoding="utf-8"))
    return {entry["case_id"]: FrozenVector(**entry) for entry in entries}


def sums_of(directory: Path) -> str:
    """What ``SHA256SUMS`` says of a folder's files."""
    files = sorted(path for path in directory.iterdir() if path.name != SUMS)
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files
    )


def require_untouched(directory: Path) -> None:
    """Raise TamperedVectorsError unless the files are those of ``SHA256SUMS``, and no others."""
    listed = set((directory / SUMS).read_text(encoding="utf-8").splitlines())
    found = set(sums_of(directory).splitlines())
    if listed != found:
        names = sorted({line.split("  ", 1)[1] for line in listed ^ found})
        raise TamperedVectorsError(
            f"frozen vectors are not those of {SUMS}: {', '.join(names)} differ; "
            f"reinstall moeproof, or see ci/freeze_vectors.py ({directory})"
        )
