"""Which checks caught which planted faults: the values, and their file ``faults.jsonl``.

The file's first line says what was judged, each further line is one fault:

    {"suite_hash": "...", "profile": "quick", "device": "cpu", "faults": 225}
    {"name": "gelu", "kind": "experts", ..., "catches": [{"check": "accuracy", ...}]}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from moeproof.report.files import write_whole
from moeproof.report.report import ReportError


@dataclass(frozen=True)
class Catch:
    """The first case in which a check caught a fault.

    Attributes:
        check: the check.
        case_id: the case.
        message: what the check said.
        cases, seconds: judged and spent until then, this case included.
    """

    check: str
    case_id: str
    message: str
    cases: int
    seconds: float


@dataclass(frozen=True)
class FaultResult:
    """What the checks made of one fault, or of a right implementation.

    Attributes:
        name, kind, bug_class, summary: of the fault; kind "right" is none.
        stands_for: public issues, as ``owner/repository#number``.
        catches: the first catch of each check that caught it, in the order of the cases.
        cases, seconds: judged and spent in all.
        not_judged: why it cannot be judged on this device; empty if it was.
    """

    name: str
    kind: str
    bug_class: str
    summary: str
    stands_for: tuple[str, ...]
    catches: tuple[Catch, ...]
    cases: int
    seconds: float
    not_judged: str = ""

    @property
    def caught(self) -> bool:
        """Whether any check caught it."""
        return bool(self.catches)


@dataclass(frozen=True)
class FaultMatrix:
    """The results of one run over faults.

    Attributes:
        suite_hash: of the suite that judged, as in a run's metadata.
        profile, device: what it judged by, and where.
        results: one for each fault and each right implementation.
    """

    suite_hash: str
    profile: str
    device: str
    results: tuple[FaultResult, ...]

    @property
    def faults(self) -> tuple[FaultResult, ...]:
        """The faults that were judged."""
        return tuple(r for r in self.results if r.kind != "right" and not r.not_judged)

    @property
    def missed(self) -> tuple[FaultResult, ...]:
        """The faults that no check caught."""
        return tuple(result for result in self.faults if not result.caught)

    @property
    def not_judged(self) -> tuple[FaultResult, ...]:
        """The faults that show on other devices alone; they count neither way."""
        return tuple(result for result in self.results if result.not_judged)

    @property
    def right(self) -> tuple[FaultResult, ...]:
        """The right implementations."""
        return tuple(result for result in self.results if result.kind == "right")

    @property
    def refused(self) -> tuple[FaultResult, ...]:
        """The right implementations that some check refused: false alarms."""
        return tuple(result for result in self.right if result.caught)

    @property
    def worst_first(self) -> tuple[FaultResult, ...]:
        """All results, those that should not be before the others."""
        wrong = (*self.missed, *self.refused)
        return (*wrong, *(result for result in self.results if result not in wrong))

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks that caught anything, in alphabetical order."""
        return tuple(sorted({catch.check for r in self.results for catch in r.catches}))

    @property
    def summary(self) -> str:
        """The totals in one line."""
        caught = [result for result in self.faults if result.caught]
        parts = [f"{len(caught)} of {len(self.faults)} faults caught"]
        if caught:
            seconds = [result.catches[0].seconds for result in caught]
            parts.append(
                f"first after {median(seconds):.2f} s (median) and {max(seconds):.2f} s (most)"
            )
        parts.append(f"{len(self.refused)} of {len(self.right)} right implementations refused")
        if self.not_judged:
            parts.append(f"{len(self.not_judged)} faults need another device")
        return ", ".join(parts)


def write_fault_matrix(path: Path, matrix: FaultMatrix) -> None:
    """Write ``faults.jsonl``."""
    header = {
        "suite_hash": matrix.suite_hash,
        "profile": matrix.profile,
        "device": matrix.device,
        "faults": len(matrix.results),
    }
    lines = [header, *(asdict(result) for result in matrix.results)]
    write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))


def read_fault_matrix(path: Path) -> FaultMatrix:
    """Read what :func:`write_fault_matrix` wrote.

    Raises:
        ReportError: the file cannot be read, or is cut or damaged.
    """
    try:
        header, *lines = (json.loads(line) for line in path.read_text("utf-8").splitlines())
        results = tuple(_result(line) for line in lines)
        if len(results) != header["faults"]:
            raise ValueError(f"{len(results)} faults instead of {header['faults']}")
        return FaultMatrix(header["suite_hash"], header["profile"], header["device"], results)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path} is no fault matrix: {error}") from error


def _result(line: dict[str, Any]) -> FaultResult:
    catches = tuple(Catch(**catch) for catch in line.pop("catches"))
    return FaultResult(**line | {"catches": catches, "stands_for": tuple(line["stands_for"])})


def as_markdown(results: Sequence[FaultResult]) -> str:
    """A table with one row a fault: what it is, which checks caught it, and where first.

    The number beside a check is how many cases of the fault's kind it needed.
    """
    lines = ["| fault | what is wrong | seen in | caught by | first in |", "|---|---|---|---|---|"]
    for result in results:
        seen = ", ".join(
            f"[{issue_name(issue)}]({issue_address(issue)})" for issue in result.stands_for
        )
        checks = ", ".join(f"{catch.check} {catch.cases}" for catch in result.catches)
        if result.not_judged:
            checks = f"not judged: {result.not_judged}"
        first = f"`{result.catches[0].case_id}`" if result.caught else ""
        cells = (f"`{result.name}`", result.summary, seen, checks or "**not caught**", first)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def issue_name(issue: str) -> str:
    """``vllm#45037`` for ``vllm-project/vllm#45037``."""
    return issue.partition("/")[2]


def issue_address(issue: str) -> str:
    """The web address of a public issue given as ``owner/repository#number``."""
    repository, number = issue.split("#")
    return f"https://github.com/{repository}/issues/{number}"
