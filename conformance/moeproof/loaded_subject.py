"""An implementation and a device inside a worker, ready to judge.

Imports torch, so a worker imports it only once the environment is prepared.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from moeproof.case_id import parse_case_id
from moeproof.devices import Device, synchronize
from moeproof.implementation import load_implementation
from moeproof.judge import judge, make_trial
from moeproof.report.metadata import RunMetadata, collect_metadata
from moeproof.trial import RouterTrial, Trial
from moeproof.verdict import Outcome, Verdict
from moeproof.worker_messages import DescribeRun, JudgeCheck, Judged, Subject


class LoadedSubject:
    """Judges check after check.

    Raises:
        Exception: whatever importing the implementation raises.
    """

    def __init__(self, subject: Subject, device: Device) -> None:
        torch.set_num_threads(1)
        if device.is_emulated:
            # Here: it needs Triton, and packages that other devices do without.
            from moeproof.amd.driver import EmulatedGpu

            EmulatedGpu(device.name, processes=subject.cores).install()
        self._subject = subject
        self._device = device
        self._implementation = load_implementation(subject.implementation)
        self._trial: Trial | RouterTrial | None = None

    def describe(self, request: DescribeRun) -> RunMetadata:
        """The metadata of a run."""
        return collect_metadata(
            implementation=self._subject.implementation,
            version=self._implementation.version,
            device=self._device,
            profile=request.profile,
        )

    def judge(self, request: JudgeCheck) -> Judged:
        """The verdict, once all work queued on the device is done.

        A GPU's error shows there at the latest, and from then on every call on the device fails.
        """
        verdict = judge(self._trial_of(request.case_id), request.check)
        reproducer = self._subject.reproducer(request.case_id, request.check)
        verdict = replace(verdict, reproducer=reproducer)
        try:
            synchronize(self._device)
        except Exception as error:
            return Judged(_with_device_error(verdict, error), device_lost=True)
        return Judged(verdict, device_lost=False)

    def _trial_of(self, case_id: str) -> Trial | RouterTrial:
        """The last check's trial if it was of the same case."""
        if self._trial is None or self._trial.case.case_id != case_id:
            self._trial = make_trial(parse_case_id(case_id), self._implementation, self._device)
        return self._trial


def _with_device_error(verdict: Verdict, error: Exception) -> Verdict:
    """An ERROR has said what happened; any other verdict must not stand."""
    if verdict.outcome is Outcome.ERROR:
        return verdict
    message = f"left an error on the device: {type(error).__name__}: {error}"
    return replace(verdict, outcome=Outcome.ERROR, message=message)
