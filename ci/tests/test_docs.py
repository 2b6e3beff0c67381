"""The commands and Python blocks of the documentation do what they say.

Each page has a folder of its own; its blocks run there in order, with nothing but links to the
checkout's folders beside them. A fence's first line says what becomes of a block:

- ``python``: a script; ``python file=NAME``: a file that later blocks use.
- ``sh``: commands, each of which must succeed; ``sh exit=1``: one that must end with 1.
- ``gpu``, ``install`` or ``fragment`` after the language: needs what is not here; only listed.
- anything else: shown, not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_RUN = {"gpu", "install", "fragment"}
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")

PAGES = sorted((ROOT / "docs").glob("*.md"))


@dataclass(frozen=True)
class Block:
    """One fenced block: the page's line it begins at, its info string, its text."""

    line: int
    info: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(text[: match.start()].count("\n") + 1, match["info"].strip(), match["text"])
        for match in FENCE.finditer(text)
    ]


def carry_out(block: Block, folder: Path) -> None:
    """Run a block in `folder`; AssertionError with the output if it ends otherwise than said."""
    language, _, option = block.info.partition(" ")
    key, _, value = option.partition("=")
    if language == "python" and key == "file":
        (folder / value).write_text(block.text, encoding="utf-8")
        return
    if language == "python" and not option:
        command = [sys.executable, "-c", block.text]
    elif language == "sh" and key in ("", "exit"):
        command = ["bash", "-euo", "pipefail", "-c", block.text]
    else:
        raise AssertionError(f"line {block.line}: unknown info string {block.info!r}")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TRITON_INTERPRET": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    expected = int(value) if key == "exit" else 0
    assert done.returncode == expected, (
        f"line {block.line}: exit code {done.returncode}, not {expected}, of\n{block.text}\n"
        f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )


def runs(block: Block) -> bool:
    language, _, option = block.info.partition(" ")
    return language in ("sh", "python") and option not in NOT_RUN


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem) for page in PAGES if any(map(runs, blocks(page)))]
)
def test_blocks_run(page: Path, tmp_path: Path) -> None:
    for name in ("ci", "conformance", "docs", "fixtures", "kernels"):
        (tmp_path / name).symlink_to(ROOT / name)
    for block in filter(runs, blocks(page)):
        carry_out(block, tmp_path)


def test_what_is_not_run_is_known() -> None:
    """A block that is to be left out is added here, on purpose."""
    left_out = [
        (page.stem, block.info)
        for page in PAGES
        for block in blocks(page)
        if block.info.partition(" ")[2] in NOT_RUN
    ]
    assert left_out == [
        ("comparing", "sh gpu"),
        ("findings", "python gpu"),
        ("findings", "python fragment"),
        ("findings", "python fragment"),
        ("fuzzing", "sh gpu"),
        ("profiles", "python fragment"),
        ("quick-start", "sh install"),
        ("quick-start", "sh gpu"),
        ("running", "sh gpu"),
        ("running", "sh fragment"),
        ("running", "sh gpu"),
        ("upgrading", "sh gpu"),
    ]


def test_commands_are_marked() -> None:
    """Commands in a fence without a language would be left out unseen."""
    command = re.compile(r"^(moeproof|tox|pytest|pip|ci/\S+) ", re.MULTILINE)
    unmarked = [
        (page.name, block.line)
        for page in PAGES
        for block in blocks(page)
        if not block.info and command.search(block.text)
    ]
    assert unmarked == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [
        target
        for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
        if not (page.parent / target).exists()
    ]
    assert missing == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = set(LINK.findall(index))
    assert {page.name for page in PAGES} - {"README.md"} <= linked


def test_a_block_that_fails_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit code 1, not 0"):
        carry_out(Block(1, "sh", "false\ntrue\n"), tmp_path)
    with pytest.raises(AssertionError, match="exit code 0, not 1"):
        carry_out(Block(1, "sh exit=1", "true\n"), tmp_path)
    with pytest.raises(AssertionError, match="exit code 1, not 0"):
        carry_out(Block(1, "python", "assert 1 == 2\n"), tmp_path)
    with pytest.raises(AssertionError, match="unknown info string 'sh cpu'"):
        carry_out(Block(1, "sh cpu", "true\n"), tmp_path)
