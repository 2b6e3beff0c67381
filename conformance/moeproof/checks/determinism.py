"""Does the same call give the same bits, with other work in between?"""

from __future__ import annotations

from dataclasses import replace

from moeproof.checks.bits import compare_bits
from moeproof.checks.check import Check, is_expert_case, missing_beside
from moeproof.inputs import ExpertInputs
from moeproof.layout import to_array
from moeproof.trial import Trial
from moeproof.verdict import Finding, Outcome


def judge_determinism(trial: Trial) -> Finding:
    """Call, call with :func:`other_inputs` (so that caches and workspaces are dirty), call again.

    The third call must give the first's bits, and leave the second's output as it was.
    """
    first, inputs = trial.output, trial.inputs
    kept = trial.call_on_device(trial.place(other_inputs(inputs)))
    before = to_array(kept)
    finding = compare_bits(trial.call(inputs), expected=first, what="the first call's output")
    if finding.outcome is not Outcome.PASS:
        return finding
    return compare_bits(to_array(kept), expected=before, what="what they were before a later call")


def other_inputs(inputs: ExpertInputs) -> ExpertInputs:
    """The same tokens in reverse order and with opposite signs, which tells even a single one."""
    return replace(
        inputs,
        hidden_states=-inputs.hidden_states[::-1],
        topk_ids=inputs.topk_ids[::-1].copy(),
    )


DETERMINISM = Check(
    name="determinism",
    question="does the same call give the same bits, with other work in between?",
    applies=is_expert_case,
    missing=missing_beside("deterministic"),
    judge=judge_determinism,
)
