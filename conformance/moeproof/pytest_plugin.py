"""The suite as a pytest plugin: ``pytest --pyargs moeproof.suite --implementation REF``.

Installed beside any pytest run, so it costs nothing and changes nothing unless asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moeproof import rounding_conclusion
from moeproof.devices import DEVICE_NAMES, GPU_DEVICES, DeviceError
from moeproof.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from moeproof.isolated_judge import IsolatedJudge
    from moeproof.worker_places import WorkerPlaces

_PLAN = "moeproof_plan"
_GPUS = "moeproof_gpus"
_PATIENCE_SECONDS = 10.0
_VERDICT_LINE = "moeproof_verdict"
VERDICT = pytest.StashKey[Verdict]()
"""What a test found."""
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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto``: one worker a GPU. pytest-xdist's own answer stands where nothing needs one."""
    device = config.getoption("--moeproof-device")
    if config.getoption("--implementation") is None or device not in GPU_DEVICES:
        return None
    from moeproof.worker_places import WorkerPlaces

    try:
        return WorkerPlaces.on(device, "auto").workers
    except DeviceError as error:
        raise pytest.UsageError(str(error)) from error


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
        from moeproof.worker_messages import Subject

        self._config = config
        self._profile: str = config.getoption("--moeproof-profile")
        self._passed = self._skipped = 0
        self._rounding: list[Verdict] = []
        self._subject = Subject(
            implementation=config.getoption("--implementation"),
            device=config.getoption("--moeproof-device"),
            timeout_seconds=config.getoption("--moeproof-timeout"),
        )
        self._resources = ExitStack()

    @cached_property
    def judge(self) -> IsolatedJudge:
        """This process's, on a GPU of its own if the device is one.

        A process that pytest-xdist starts in place of a crashed one waits for that one's worker,
        which may have a check under way: until then no GPU is free.
        """
        patience_seconds = _PATIENCE_SECONDS
        if self._xdist_input is not None:
            patience_seconds += self._subject.timeout_seconds
        return self._resources.enter_context(self._a_judge(patience_seconds))

    @contextmanager
    def _a_judge(self, patience_seconds: float) -> Iterator[IsolatedJudge]:
        from moeproof.isolated_judge import IsolatedJudge
        from moeproof.worker_places import cores_of_a_worker

        subject = replace(self._subject, cores=cores_of_a_worker(self._places.workers))
        with (
            self._places.place(patience_seconds=patience_seconds) as lease,
            IsolatedJudge(subject, lease) as judge,
        ):
            yield judge

    @cached_property
    def _places(self) -> WorkerPlaces:
        """Where this run's processes judge; those of pytest-xdist are told by their controller."""
        from moeproof.gpus import Gpu
        from moeproof.worker_places import WorkerPlaces

        if self._xdist_input is not None:
            gpus = tuple(Gpu.from_row(row) for row in self._xdist_input[_GPUS])
            return WorkerPlaces(self._xdist_input["workercount"], gpus)
        return WorkerPlaces.on(self._subject.device, len(self._config.getoption("tx", ())) or 1)

    @cached_property
    def plan(self) -> list[tuple[str, str]]:
        """The pairs (case id, check) of the profile that was asked for."""
        if self._xdist_input is not None:
            pairs: list[tuple[str, str]] = self._xdist_input[_PLAN]
            return pairs
        from moeproof.profiles import plan

        try:
            planned = plan(self._profile, self._subject.device)
        except ValueError as error:
            raise pytest.UsageError(f"--moeproof-profile: {error}") from error
        return [(item.case.case_id, check) for item in planned for check in item.checks]

    @property
    def _xdist_input(self) -> dict[str, Any] | None:
        """What the controller gave this process, if it is a worker of pytest-xdist's."""
        return getattr(self._config, "workerinput", None)

    def pytest_report_header(self) -> str:
        subject = self._subject
        return f"moeproof: {subject.implementation} on {subject.device}, profile {self._profile}"

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Load the implementation before anything is collected: a wrong name is a usage error."""
        from moeproof.implementation import ImplementationError

        if self._xdist_input is not None or self._config.getoption("collectonly"):
            return
        if not self.plan:
            raise pytest.UsageError(f"profile {self._profile} has no case for this device")
        try:
            if self._config.getoption("dist", "no") == "no":
                self.judge.start()
            else:
                # With its GPU, which a worker is to have.
                with self._a_judge(_PATIENCE_SECONDS) as judge:
                    judge.start()
            self._tell(self._places.warnings)
        except (ImplementationError, DeviceError) as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """One plan and one list of GPUs for all workers of pytest-xdist's."""
        node.workerinput[_PLAN] = self.plan
        node.workerinput[_GPUS] = [asdict(gpu) for gpu in self._places.gpus]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, None]:
        """Let a test's report carry the verdict to the process that draws the conclusions."""
        outcome = yield
        verdict = item.stash.get(VERDICT, None)
        if verdict is not None and verdict.check == rounding_conclusion.CHECK:
            from moeproof.report.lines import verdict_line

            setattr(outcome.get_result(), _VERDICT_LINE, verdict_line(verdict))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._passed += report.when == "call" and report.passed
        self._skipped += report.skipped
        line = getattr(report, _VERDICT_LINE, None)
        if report.when == "call" and line is not None:
            from moeproof.report.lines import verdict_from_line

            self._rounding.append(verdict_from_line(line))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """No success is a run in which nothing was judged, nor one that no rounding explains."""
        if session.exitstatus != pytest.ExitCode.OK or self._xdist_input is not None:
            return
        if any(each.outcome is Outcome.FAIL for each in self._conclusions()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif self._skipped and not self._passed:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What all cases of a dtype together say about the rounding."""
        for conclusion in self._conclusions():
            outcome, message = conclusion.outcome.value, conclusion.message
            terminalreporter.write_line(f"{outcome} rounding in {conclusion.dtype}: {message}")
            if conclusion.reproducer:
                terminalreporter.write_line(f"  {conclusion.reproducer}")

    def _tell(self, warnings: Iterable[str]) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        for warning in warnings:
            reporter.write_line(f"moeproof: warning: {warning}", yellow=True)

    def _conclusions(self) -> tuple[rounding_conclusion.RoundingConclusion, ...]:
        return rounding_conclusion.conclude(self._rounding)

    def pytest_unconfigure(self) -> None:
        self._resources.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Unless a --dist was asked for, all checks of a case go to one worker: what they share
        is computed once, and after a crash the rest of the case is not judged."""
        if config.getoption("dist") != "load":
            return None
        from moeproof.case_scheduling import CaseScheduling

        return CaseScheduling(config, log)
