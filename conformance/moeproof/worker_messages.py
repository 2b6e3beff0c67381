"""What a worker and its supervisor say to each other. Everything here is plain and picklable.

The supervisor sends a :class:`Subject`, and the worker answers :class:`Ready` or
:class:`Refused`; a later Subject on the same device takes the first one's place. To a
:class:`JudgeCheck` it answers :class:`CheckBegins` and then
:class:`Judged`; to a :class:`DescribeRun` the run's metadata.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import Enum

from moeproof.verdict import Verdict

CHECK_MARK = b"\x1e"
"""Written to the worker's stderr as a check begins: what follows belongs to that check."""


@dataclass(frozen=True)
class Subject:
    """What a worker judges.

    Attributes:
        implementation: a reference, as :func:`moeproof.implementation.load_implementation` takes.
        device: one of :data:`moeproof.devices.DEVICE_NAMES`.
        timeout_seconds: the longest that one check may take.
        cores: how many processor cores an emulated GPU may use; None for all that there are.
    """

    implementation: str
    device: str
    timeout_seconds: float
    cores: int | None = None

    def reproducer(self, case_id: str, check: str) -> str:
        """The command that judges one check of one case again."""
        return (
            f"moeproof replay {shlex.quote(case_id)} --check {check} "
            f"--implementation {shlex.quote(self.implementation)} --device {self.device}"
        )


@dataclass(frozen=True)
class JudgeCheck:
    """Judge one check of a case. Checks of one case in a row share what is costly to compute."""

    case_id: str
    check: str


@dataclass(frozen=True)
class DescribeRun:
    """Collect the metadata of a run of this profile."""

    profile: str


@dataclass(frozen=True)
class Ready:
    """The implementation is loaded and the device is usable."""


class Fault(str, Enum):
    """Whose fault it is that a worker cannot start."""

    IMPLEMENTATION = "implementation"
    DEVICE = "device"


@dataclass(frozen=True)
class Refused:
    """The worker cannot start, and why."""

    fault: Fault
    message: str


@dataclass(frozen=True)
class CheckBegins:
    """The breadcrumb: should the process die now, it is this check that killed it."""

    case_id: str
    check: str


@dataclass(frozen=True)
class Judged:
    """A check's verdict. After ``device_lost`` the worker is of no more use."""

    verdict: Verdict
    device_lost: bool
