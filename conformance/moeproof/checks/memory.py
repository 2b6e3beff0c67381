"""Does it keep to its memory: inputs unchanged, nothing written outside, nothing read unwritten?"""

from __future__ import annotations

from moeproof.checks.accuracy import judge_output
from moeproof.checks.check import Check, is_expert_case, missing_for_experts
from moeproof.poison import PoisonedAllocations
from moeproof.trial import Trial
from moeproof.verdict import Finding, Outcome


def judge_memory(trial: Trial) -> Finding:
    """Call with NaN in every unwritten allocation and guard zones around every tensor."""
    placed = trial.place(trial.inputs)
    with PoisonedAllocations() as allocations:
        output = trial.call_placed(placed)
    for name, tensor in placed.tensors.items():
        changed = tensor.changed()
        if changed is not None:
            return Finding(Outcome.FAIL, f"the {changed} of {name} was written")
    overrun = allocations.overrun()
    if overrun is not None:
        return Finding(Outcome.FAIL, overrun)
    return judge_output(output, inputs=trial.inputs, interval=trial.interval)


MEMORY = Check(
    name="memory",
    question="are inputs unchanged, guard zones intact, and is nothing read before it is written?",
    applies=is_expert_case,
    missing=missing_for_experts,
    judge=judge_memory,
)
