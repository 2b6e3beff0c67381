"""The reports below a folder, as Markdown for a CI job's page: ``python ci/job_summary.py FOLDER``.

Runs where nothing is installed but Python: on a GPU runner the suite itself is in a container. A
report that was cut, and a folder without any, are said to be so.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

BAD = ("FAIL", "ERROR")
MOST_SHOWN = 20


def main(arguments: list[str]) -> int:
    """Print the summary."""
    (folder,) = map(Path, arguments)
    parts = [*summaries(folder)]
    print("\n".join(parts) if parts else f"No report in `{folder}`.")
    return 0


def summaries(folder: Path) -> Iterator[str]:
    """One for each report: of the suite, of the fuzzer, of pytest."""
    for path in sorted(folder.rglob("*")):
        if path.name in ("report.jsonl", "report.partial.jsonl"):
            yield suite_summary(path)
        elif path.name == "fuzz.json":
            yield fuzz_summary(path)
        elif path.name == "junit.xml" and not path.with_name("report.jsonl").exists():
            yield pytest_summary(path)


def suite_summary(path: Path) -> str:
    """Counts and what is bad, whether or not the run came to its end."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if _is_whole(line)]
    of_kind = {kind: [line for line in lines if line["kind"] == kind] for kind in _KINDS}
    verdicts = of_kind["verdict"]
    text = [f"### {path.parent}"]
    for header in of_kind["header"]:
        text.append(_subject(header["metadata"]))
    if not of_kind["footer"] or path.name == "report.partial.jsonl":
        text.append(f"**Cut: this run did not come to its end** ({len(verdicts)} verdicts).")
    counts = Counter(line["verdict"] for line in verdicts)
    text += _table(counts)
    bad = [line for line in verdicts if line["verdict"] in BAD]
    for footer in of_kind["footer"]:
        bad += [
            {**line, "check": f"rounding in {line['dtype']}", "message": ""}
            for line in footer.get("rounding", [])
            if line["verdict"] in BAD
        ]
    return "\n".join([*text, *_bad_lines(bad)]) + "\n"


def fuzz_summary(path: Path) -> str:
    """How much was judged and what failed."""
    content = json.loads(path.read_text("utf-8"))
    judged = content["tally"]["judged"]
    failures = [{**failure, "verdict": failure["outcome"]} for failure in content["failures"]]
    text = [f"### {path.parent}", _subject(content["metadata"])]
    text.append(f"{judged} cases judged, seed {content['seed']}, {len(failures)} failures")
    return "\n".join([*text, *_bad_lines(failures)]) + "\n"


def pytest_summary(path: Path) -> str:
    """The counts that pytest wrote."""
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    names = ("tests", "failures", "errors", "skipped")
    totals = {name: sum(int(suite.get(name, 0)) for suite in suites) for name in names}
    return "\n".join([f"### {path.parent}", *_table(Counter(totals))]) + "\n"


_KINDS = ("header", "verdict", "footer")


def _is_whole(line: str) -> bool:
    """The last line of a run that was killed may be half a line."""
    try:
        return bool(json.loads(line))
    except ValueError:
        return False


def _subject(metadata: dict[str, Any]) -> str:
    name = metadata["device_description"]["name"]
    what = f"`{metadata['implementation']}` on {metadata['device']} ({name})"
    return f"{what}, profile {metadata['profile']}\n"


def _table(counts: Counter[str]) -> list[str]:
    names = list(counts) or ["verdicts"]
    row = " | ".join(str(counts[name]) for name in names)
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}", f"| {row} |", ""]


def _bad_lines(bad: list[dict[str, Any]]) -> Iterator[str]:
    for line in bad[:MOST_SHOWN]:
        first = (line["message"].splitlines() or [""])[0]
        yield f"- **{line['verdict']} {line['check']}** {first}\n  `{line['reproducer']}`"
    if len(bad) > MOST_SHOWN:
        yield f"- and {len(bad) - MOST_SHOWN} more"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
