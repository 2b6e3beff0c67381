"""A plan judged from the command line: progress shown, verdicts recorded if a folder is given."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from moeproof.console import RunProgress, print_warnings
from moeproof.planned_case import PlannedCase
from moeproof.report import CutReport, ReportWriter, RunMetadata, Shard
from moeproof.report.identity import deciding_differences
from moeproof.report.report import plan_digest, planned_pairs
from moeproof.report_directory import ReportDirectory
from moeproof.rounding_conclusion import conclude
from moeproof.runner import JudgePool, Subject
from moeproof.usage_error import UsageError
from moeproof.verdict import Outcome, Verdict
from moeproof.worker_places import Workers


@dataclass(frozen=True)
class Recording:
    """Where a run's verdicts go.

    Attributes:
        directory: claimed by the caller.
        shard: which part of a larger plan is judged.
        resume: go on with what a run that was cut has left there, if anything.
    """

    directory: ReportDirectory
    shard: Shard | None = None
    resume: bool = False


def judge_plan(
    planned: Sequence[PlannedCase],
    *,
    subject: Subject,
    profile: str,
    workers: Workers,
    recording: Recording | None = None,
) -> list[Verdict]:
    """One verdict for each check of each planned case; those of an earlier part come first.

    Raises:
        ImplementationError, DeviceError: nothing can be judged.
        ReportError: what is to be gone on with is damaged.
        UsageError: it belongs to another run, or the folder cannot be written.
    """
    with ExitStack() as stack:
        pool = stack.enter_context(JudgePool(subject, workers=workers))
        print_warnings(pool.warnings)
        verdicts: list[Verdict] = []
        writer = None
        if recording is not None:
            directory, metadata = recording.directory, pool.metadata(profile)
            earlier = directory.read_last() if recording.resume else None
            if earlier is not None:
                _require_same_run(earlier, metadata, planned, recording.shard)
                verdicts.extend(earlier.verdicts)
                print(f"resumed: {len(verdicts)} verdicts were there already")
            # Left before the pages are written: it must be whole by then.
            if earlier is None or earlier.footer is None:
                writer = ReportWriter(
                    directory.partial, metadata, planned, shard=recording.shard, earlier=earlier
                )
                stack.enter_context(writer)
        due = _without(planned, verdicts)
        progress = stack.enter_context(RunProgress(sum(len(case.checks) for case in due)))
        for verdict in pool.judge(due):
            if writer is not None:
                writer.write(verdict)
            verdicts.append(verdict)
            progress.advance(verdict)
    if recording is not None:
        recording.directory.publish()
    return verdicts


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 if all that was judged passed and fits one rounding profile, 1 if not.

    Raises:
        UsageError: nothing was judged.
    """
    outcomes = {verdict.outcome for verdict in verdicts}
    outcomes |= {conclusion.outcome for conclusion in conclude(verdicts)}
    if outcomes & {Outcome.FAIL, Outcome.ERROR}:
        return 1
    if Outcome.PASS not in outcomes:
        raise UsageError(
            f"nothing was judged: all {len(verdicts)} verdicts are UNSUPPORTED; the "
            "implementation claims none of what these cases need"
        )
    return 0


def _without(planned: Sequence[PlannedCase], judged: Sequence[Verdict]) -> list[PlannedCase]:
    done = {(verdict.case_id, verdict.check) for verdict in judged}
    due = []
    for item in planned:
        checks = tuple(check for check in item.checks if (item.case.case_id, check) not in done)
        if checks:
            due.append(PlannedCase(item.case, checks))
    return due


def _require_same_run(
    earlier: CutReport, metadata: RunMetadata, planned: Sequence[PlannedCase], shard: Shard | None
) -> None:
    found = [str(item) for item in deciding_differences(earlier.header.metadata, metadata)]
    if earlier.header.shard != shard:
        found.append(f"shard: {_named(earlier.header.shard)} and {_named(shard)}")
    if earlier.header.plan_digest != plan_digest(planned_pairs(planned)):
        found.append("the planned cases and checks")
    if found:
        raise UsageError(
            "--resume: the report in this folder is of another run; they differ in "
            f"{'; '.join(found)}"
        )


def _named(shard: Shard | None) -> str:
    return "none" if shard is None else f"{shard.index}/{shard.count} of {shard.whole_digest[:12]}"
