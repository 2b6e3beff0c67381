"""The suite as a pytest plugin: ``pytest --pyargs moeproof.suite --implementation REF``.

Installed beside any pytest run, so it costs nothing and changes nothing unless asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moeproof.devices import DEVICE_NAMES

if TYPE_CHECKING:
    from moeproof.isolated_judge import IsolatedJudge
    from moeproof.planned_case import PlannedCase

_SUITE = Path(__file__).resolve().parent / "suite"
NEEDED = (
    "moeproof.suite needs --implementation REF: an adapter's name (see moeproof list "
    "implementations), module:attribute or path/to/file.py:attribute"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("moeproof", "conformance of a fused MoE implementation")
    group.addoption(
        "--implementation",
        metavar="REF",
        help="judge this: an adapter's name, module:attribute or path/to/file.py:attribute",
    )
    group.addoption("--moeproof-device", choices=DEVICE_NAMES, default="cpu")
    group.addoption(
        "--moeproof-profile", default="quick", metavar="NAME", help="see moeproof list profiles"
    )
    group.addoption(
        "--moeproof-timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="the longest that one check of one case may take",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--implementation") is not None:
        config.pluginmanager.register(Conformance(config), "moeproof-conformance")
    elif any(_is_of_suite(argument) for argument in config.args):
        raise pytest.UsageError(NEEDED)


def _is_of_suite(argument: str) -> bool:
    """Whether a command line argument asks for the suite by its module's name or by a path."""
    location = argument.partition("::")[0].partition("[")[0]
    if location == "moeproof.suite" or location.startswith("moeproof.suite."):
        return True
    path = Path(location).resolve()
    return path == _SUITE or _SUITE in path.parents


class Conformance:
    """What one run of the suite through pytest has: a plan, a judge, and counts."""

    def __init__(self, config: pytest.Config) -> None:
        # Here, so that other pytest runs need not import it.
        from moeproof.isolated_judge import IsolatedJudge
        from moeproof.worker_messages import Subject

        self._config = config
        self._passed = self._skipped = 0
        self.judge: IsolatedJudge = IsolatedJudge(
            Subject(
                implementation=config.getoption("--implementation"),
                device=config.getoption("--moeproof-device"),
                timeout_seconds=config.getoption("--moeproof-timeout"),
            )
        )

    @property
    def _is_xdist_worker(self) -> bool:
        return hasattr(self._config, "workerinput")

    def plan(self) -> list[PlannedCase]:
        """The cases of the profile that was asked for."""
        from moeproof.profiles import plan

        profile: str = self._config.getoption("--moeproof-profile")
        device: str = self._config.getoption("--moeproof-device")
        return plan(profile, device)

    def pytest_report_header(self) -> str:
        subject = self.judge.subject
        profile = self._config.getoption("--moeproof-profile")
        return f"moeproof: {subject.implementation} on {subject.device}, profile {profile}"

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Load the implementation before anything is collected: a wrong name is a usage error."""
        from moeproof.devices import DeviceError
        from moeproof.implementation import ImplementationError
        from moeproof.profiles import PROFILES

        profile = self._config.getoption("--moeproof-profile")
        if profile not in PROFILES:
            raise pytest.UsageError(
                f"--moeproof-profile: got {profile!r}, allowed: {', '.join(PROFILES)}"
            )
        if self._is_xdist_worker or self._config.getoption("collectonly"):
            return
        try:
            self.judge.start()
        except (ImplementationError, DeviceError) as error:
            raise pytest.UsageError(str(error)) from error

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._passed += report.when == "call" and report.passed
        self._skipped += report.skipped

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A run in which nothing was judged is no success."""
        if session.exitstatus == pytest.ExitCode.OK and self._skipped and not self._passed:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_unconfigure(self) -> None:
        self.judge.__exit__(None, None, None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """All checks of a case go to one worker: what a case costs is paid once."""
        from moeproof.case_scheduling import CaseScheduling

        return CaseScheduling(config, log)
