"""Values that stand for a run: metadata, verdicts of every outcome, whole reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from moeproof.case_id import parse_case_id
from moeproof.planned_case import PlannedCase
from moeproof.report import (
    Footer,
    Header,
    Package,
    Report,
    ReportWriter,
    RunMetadata,
    read_report,
)
from moeproof.verdict import Outcome, Verdict, WorstElement

CASE_IDS = (
    "T33-H64-I96-E8-K2-bf16/zipf/random/contiguous/7",
    "T33-H64-I96-E8-K2-fp16/uniform/cancelling/offset/1",
    "T64-H128-I64-E16-K4-fp32/empty_first/random/contiguous/0",
    "route-T5-E8-K2-softmax-renormalized-fp32/ties/0",
)


@pytest.fixture
def metadata() -> RunMetadata:
    return RunMetadata(
        implementation="moe_dispatch",
        implementation_version="0.1.0",
        device="rocm",
        device_description={
            "name": "AMD Instinct MI300X",
            "architecture": "gfx942",
            "memory": "191.7 GiB",
            "driver": "amdgpu 6.12.12",
            "runtime": "HIP 7.0",
        },
        packages=(
            Package("torch", "torch", "2.10.0+rocm7.0"),
            Package("triton", "triton-rocm", "3.6.0"),
            Package("numpy", "numpy", "2.3.1"),
        ),
        python="CPython 3.12.3",
        platform="Linux-6.8.0-x86_64",
        environment={"HIP_VISIBLE_DEVICES": "0", "TRITON_CACHE_DIR": "/tmp/triton"},
        profile="standard",
        suite_version="0.1.0",
        suite_hash="ab" * 32,
    )


@pytest.fixture
def make_verdict() -> Callable[..., Verdict]:
    def make(
        case_id: str = CASE_IDS[0],
        check: str = "accuracy",
        outcome: Outcome = Outcome.PASS,
        **changes: object,
    ) -> Verdict:
        fields: dict[str, object] = {
            "message": "",
            "figures": {},
            "worst": None,
            "evidence": {},
            "seconds": 0.25,
            "reproducer": (
                f"moeproof replay '{case_id}' --check {check} --implementation moe_dispatch"
            ),
        }
        return Verdict(case_id, check, outcome, **{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def verdicts(make_verdict: Callable[..., Verdict]) -> list[Verdict]:
    """One of each outcome, with all that a verdict can hold."""
    return [
        make_verdict(CASE_IDS[0], figures={"max_error_ratio": 0.1 + 0.2, "wrong_elements": 0.0}),
        make_verdict(
            CASE_IDS[1],
            outcome=Outcome.FAIL,
            message="3 of 2112 elements in 2 of 33 tokens are outside",
            figures={
                "max_error_ratio": math.inf,
                "wrong_elements": 3.0,
                "least": -math.inf,
                "undefined": math.nan,
            },
            worst=WorstElement(17, 3, (5, -1), math.nan, -math.inf, 1.5, math.inf),
            evidence={
                "tokens_per_expert": [40, 0, 9, 1, 8, 8, 0, 0],
                "error_ratio_map": [[0.25, 1e9], [0.5, 3.5]],
                "shape": [33, 64],
            },
        ),
        make_verdict(
            CASE_IDS[2],
            outcome=Outcome.ERROR,
            message="worker died: SIGSEGV\x00 \udcff \u2028 \U0001f4a5 </script>" + "x" * 100_000,
        ),
        make_verdict(
            CASE_IDS[0], "memory", Outcome.UNSUPPORTED, message="layout far_apart is not claimed"
        ),
        make_verdict(CASE_IDS[3], "routing", figures={"wrong_tokens": 0.0}),
    ]


@pytest.fixture
def plan_for() -> Callable[[Sequence[Verdict]], list[PlannedCase]]:
    """The plan that asks for just these verdicts."""

    def plan(verdicts: Sequence[Verdict]) -> list[PlannedCase]:
        return [PlannedCase(parse_case_id(item.case_id), (item.check,)) for item in verdicts]

    return plan


@pytest.fixture
def write_report(
    tmp_path: Path,
    metadata: RunMetadata,
    plan_for: Callable[[Sequence[Verdict]], list[PlannedCase]],
) -> Callable[[Sequence[Verdict]], Path]:
    def write(verdicts: Sequence[Verdict]) -> Path:
        path = tmp_path / "report.jsonl"
        with ReportWriter(path, metadata, plan_for(verdicts)) as writer:
            for verdict in verdicts:
                writer.write(verdict)
        return path

    return write


@pytest.fixture
def report(write_report: Callable[[Sequence[Verdict]], Path], verdicts: list[Verdict]) -> Report:
    return read_report(write_report(verdicts))


@pytest.fixture
def make_report(metadata: RunMetadata) -> Callable[[Sequence[Verdict]], Report]:
    """A report as :func:`read_report` gives it, without the file, of any verdicts."""

    def make(verdicts: Sequence[Verdict]) -> Report:
        header = Header(
            metadata=metadata,
            planned_cases=len({item.case_id for item in verdicts}),
            planned_verdicts=len(verdicts),
            plan_digest="0" * 64,
            questions={item.check: f"is {item.check} right?" for item in verdicts},
            started_at="2025-01-01T00:00:00+00:00",
        )
        footer = Footer.of(verdicts, seconds=12.5)
        return Report(header, tuple(verdicts), footer)

    return make
