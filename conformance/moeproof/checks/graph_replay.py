"""Does a captured CUDA or HIP graph compute afresh when its inputs have changed?"""

from __future__ import annotations

from dataclasses import replace

import torch

from moeproof.checks.bits import compare_bits
from moeproof.checks.check import GPU_DEVICES, Check, is_expert_case, missing_beside
from moeproof.checks.determinism import other_inputs
from moeproof.layout import to_array, to_tensor
from moeproof.trial import Trial
from moeproof.verdict import Finding


def judge_graph_replay(trial: Trial) -> Finding:
    """Capture on the case; replay with other tokens and routing; compare with an eager call."""
    inputs = trial.inputs
    reversed_weights = inputs.topk_weights[::-1, ::-1].copy()
    changed = replace(other_inputs(inputs), topk_weights=reversed_weights)
    expected = trial.call(changed)
    placed = trial.place(inputs)
    trial.call_on_device(placed)  # warm up: compile and allocate outside the capture
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        output = trial.implementation.fused_experts(*placed.arguments())
    for name, array in changed.arrays().items():
        placed.tensors[name].tensor.copy_(to_tensor(array))
    graph.replay()
    torch.cuda.synchronize()
    replayed = to_array(output)
    return compare_bits(replayed, expected=expected, what="an eager call on the changed inputs")


GRAPH_REPLAY = Check(
    name="graph_replay",
    question="does a captured graph compute afresh when its inputs have changed?",
    applies=is_expert_case,
    missing=missing_beside("graph_capture", "deterministic"),
    judge=judge_graph_replay,
    devices=GPU_DEVICES,
)
