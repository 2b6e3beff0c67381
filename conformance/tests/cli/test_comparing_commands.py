"""The commands of ``docs/comparing.md`` do what it says, here on short profiles."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from moeproof.case_id import parse_case_id
from moeproof.cli import main
from moeproof.profiles import PROFILES, Profile

DOCUMENT = Path(__file__).parents[3] / "docs" / "comparing.md"
CASES = [f"T{tokens}-H16-I16-E4-K2-bf16/uniform/random/contiguous/0" for tokens in range(1, 5)]


def test_every_command_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("quick", "certification"):
        short = Profile(name, "short", lambda device: map(parse_case_id, CASES))
        monkeypatch.setitem(PROFILES, name, short)
    blocks = re.findall(r"```sh[^\n]*\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert len(commands) == 7
    codes = {}
    for program, *arguments in commands:
        assert program == "moeproof"
        codes[arguments[0]] = main(arguments)
    # torch_eager does not claim all that the list asks for, so it is not certified.
    assert codes == {"run": 0, "merge": 0, "compare": 0, "certify": 1, "verify": 1}
    assert {path.name for path in tmp_path.iterdir()} == {
        *("out", "part1", "part2", "whole"),
        *("compare.html", "compare.md", "torch_eager.zip"),
    }
