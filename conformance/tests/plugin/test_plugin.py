"""The suite through pytest: the same verdicts, and no trace in other pytest runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from moeproof.planned_case import PlannedCase
from moeproof.profiles import plan
from moeproof.runner import run
from moeproof.verdict import Outcome

SUBJECTS = Path(__file__).parents[1] / "subjects"
MISBEHAVING = f"{SUBJECTS / 'misbehaving.py'}:fused_experts"
# Of the profile's sizes: right on 0 tokens, raises on 1, returns a wrong shape on 3, exits on 15.
CASES = re.compile(r"T(0|1|3|15)-H64-I48-E8-K2-\w+/uniform/random/contiguous/1")


def suite(
    *arguments: str, directory: Path, module: str = "moeproof.suite"
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--pyargs", module, "-v", "-rs", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )


def test_pytest_says_what_the_runner_says(tmp_path: Path) -> None:
    # Without the memory check, for which torch would import seconds' worth of modules each time.
    planned = [
        PlannedCase(item.case, tuple(check for check in item.checks if check != "memory"))
        for item in plan("quick", "cpu")
        if CASES.fullmatch(item.case.case_id)
    ]
    assert len(planned) == 4
    words = {Outcome.PASS: "passed", Outcome.UNSUPPORTED: "skipped"}
    verdicts = run(
        planned, implementation=MISBEHAVING, device="cpu", workers=2, timeout_seconds=120.0
    )
    expected = {
        f"{verdict.check}-{verdict.case_id}": words.get(verdict.outcome, "failure")
        for verdict in verdicts
    }
    assert set(expected.values()) == {"passed", "skipped", "failure"}

    for workers in ("0", "2"):
        result = suite(
            "--implementation",
            MISBEHAVING,
            "-n",
            workers,
            "-k",
            f"not memory and ({' or '.join(item.case.case_id for item in planned)})",
            "--junitxml=junit.xml",
            directory=tmp_path,
        )
        assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout + result.stderr
        assert _outcomes(tmp_path / "junit.xml") == expected
        assert "ERROR: RuntimeError: no such tile" in result.stdout
        assert "FAIL: output has shape (2, 64), expected (3, 64)" in result.stdout
        assert "ERROR: the process exited with code 3; it last wrote: giving up" in result.stdout
        assert "\nmoeproof replay T15-H64-I48-E8-K2-" in result.stdout
        assert "UNSUPPORTED: deterministic is not claimed" in result.stdout
        assert "Traceback" not in result.stdout


def _outcomes(junit: Path) -> dict[str, str]:
    """Of each test: "passed", or the name of the element that says otherwise."""
    outcomes = {}
    for test in ElementTree.parse(junit).iter("testcase"):
        test_id = test.attrib["name"].removeprefix("test_conformance[").removesuffix("]")
        outcomes[test_id] = next((child.tag for child in test), "passed")
    return outcomes


def test_nothing_judged_is_no_success(tmp_path: Path) -> None:
    result = suite(
        "--implementation",
        f"{SUBJECTS / 'right.py'}:claims_nothing",
        "-k",
        "accuracy and T31-H64-I48-E8-K2",
        directory=tmp_path,
    )
    assert "1 skipped" in result.stdout
    assert result.returncode == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize("workers", ["0", "2"])
def test_cases_that_no_rounding_profile_explains_together_are_no_success(
    workers: str, tmp_path: Path
) -> None:
    chosen = [f"T{tokens}-H64-I48-E8-K2-bf16/uniform/random/contiguous/1" for tokens in (3, 17)]
    result = suite(
        "--implementation",
        f"{SUBJECTS / 'changing_rounding.py'}:fused_experts",
        "-n",
        workers,
        "-k",
        f"(accuracy or rounding) and ({' or '.join(chosen)})",
        directory=tmp_path,
    )
    assert "4 passed" in result.stdout, result.stdout + result.stderr
    assert result.returncode == pytest.ExitCode.TESTS_FAILED
    assert "FAIL rounding in bf16: no rounding profile fits all 2 cases" in result.stdout
    assert "moeproof run --case T" in result.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("module", ["moeproof.suite", "moeproof.suite.test_conformance"])
def test_without_an_implementation_it_is_a_usage_error(
    workers: str, module: str, tmp_path: Path
) -> None:
    result = suite("-n", workers, directory=tmp_path, module=module)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "moeproof.suite needs --implementation REF: an adapter's name" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--implementation", "vllm"), "implementation 'vllm' is unknown; allowed: an adapter"),
        (("--implementation", "vllm", "-n", "2"), "implementation 'vllm' is unknown; allowed"),
        (
            ("--implementation", "torch_eager", "--moeproof-profile", "slow"),
            "--moeproof-profile: profile 'slow' is unknown; allowed: quick",
        ),
        (
            ("--implementation", "torch_eager", "--moeproof-device", "tpu"),
            "invalid choice: 'tpu'",
        ),
    ],
)
def test_bad_usage_is_a_usage_error(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = suite(*arguments, directory=tmp_path)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr


def test_other_pytest_runs_do_not_import_torch(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_modules(request):\n"
        "    assert request.config.pluginmanager.has_plugin('moeproof')\n"
        "    assert 'torch' not in sys.modules\n"
        "    assert 'moeproof.profiles' not in sys.modules\n"
    )
    result = suite("test_other.py", directory=tmp_path, module="test_other.py")
    assert result.returncode == 0, result.stdout
