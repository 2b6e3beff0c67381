"""Does the same call give the same bits, with other work in between?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moeproof.case_id import AnyCase
from moeproof.checks.bits import compare_bits
from moeproof.checks.check import Check, is_expert_case, missing_for_experts
from moeproof.implementation import Capabilities
from moeproof.trial import Trial
from moeproof.verdict import Finding


def judge_determinism(trial: Trial) -> Finding:
    """Call, call with the tokens reversed (so that caches and workspaces are dirty), call again."""
    first = trial.output
    inputs = trial.inputs
    trial.call(
        replace(
            inputs,
            hidden_states=np.ascontiguousarray(inputs.hidden_states[::-1]),
            topk_ids=np.ascontiguousarray(inputs.topk_ids[::-1]),
        )
    )
    return compare_bits(trial.call(inputs), expected=first, what="the first call's output")


def _missing(case: AnyCase, capabilities: Capabilities) -> str | None:
    if not capabilities.deterministic:
        return "deterministic is not claimed"
    return missing_for_experts(case, capabilities)


DETERMINISM = Check(
    name="determinism",
    question="does the same call give the same bits, with other work in between?",
    applies=is_expert_case,
    missing=_missing,
    judge=judge_determinism,
)
