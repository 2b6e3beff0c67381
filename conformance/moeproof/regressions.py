"""Cases that once failed: one JSON file each, found by the fuzzer or by hand, judged ever after."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import cache
from hashlib import blake2b
from pathlib import Path

from moeproof.case_id import parse_case_id
from moeproof.fixture_files import fixtures_directory


@dataclass(frozen=True)
class Regression:
    """One file of ``fixtures/regressions``.

    Attributes:
        case_id: the case, as small as it still fails.
        check: the check that said so.
        outcome: FAIL or ERROR.
        what_was_wrong: the verdict's message, or a sentence by whoever found the cause.
        implementation: the reference of what failed, and its version if it has one.
        device: where.
        found_on: ISO date.
    """

    case_id: str
    check: str
    outcome: str
    what_was_wrong: str
    implementation: str
    device: str
    found_on: str

    @property
    def file_name(self) -> str:
        """``accuracy-3f2a9c1e.json``: the same failure has the same name wherever it is found."""
        digest = blake2b(self.case_id.encode(), digest_size=4).hexdigest()
        return f"{self.check}-{digest}.json"

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@cache
def regressions() -> dict[str, Regression]:
    """Every regression of the suite, by the name of its file. Empty if none was kept."""
    return read_regressions(fixtures_directory() / "regressions")


def read_regressions(folder: Path) -> dict[str, Regression]:
    """The regressions in a folder, by the names of their files.

    Raises:
        ValueError: a file is no regression; the message names it and says what is wrong.
    """
    return {path.name: _read(path) for path in sorted(folder.glob("*.json"))}


def _read(path: Path) -> Regression:
    expected = [field.name for field in fields(Regression)]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or sorted(content) != sorted(expected):
            raise ValueError(f"needs exactly {', '.join(expected)}")
        if not all(isinstance(value, str) for value in content.values()):
            raise ValueError("every value must be a text")
        parse_case_id(content["case_id"])
    except ValueError as error:
        raise ValueError(f"{path}: no regression: {error}") from error
    return Regression(**content)
