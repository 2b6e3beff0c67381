"""Does bad input raise an error that names the argument, instead of giving a wrong answer?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from moeproof.case import Case, Layout, ValueFamily
from moeproof.case_id import AnyCase
from moeproof.checks.check import Check, missing_beside
from moeproof.trial import Trial
from moeproof.verdict import Finding, Outcome

Arguments = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Malformation:
    """One way to spoil a right call: what is wrong, the argument to be named, the change."""

    what: str
    argument: str
    spoil: Callable[[Arguments], torch.Tensor]


def _other_dtype(tensor: torch.Tensor) -> torch.Tensor:
    other = torch.float16 if tensor.dtype is not torch.float16 else torch.bfloat16
    return tensor.to(other)


MALFORMATIONS: tuple[Malformation, ...] = (
    Malformation(
        "hidden_states has one dimension", "hidden_states",
        lambda a: a["hidden_states"].reshape(-1),
    ),
    Malformation(
        "hidden_states has a column less than the weights", "hidden_states",
        lambda a: a["hidden_states"][:, :-1],
    ),
    Malformation(
        "hidden_states is of an integer dtype", "hidden_states",
        lambda a: a["hidden_states"].to(torch.int32),
    ),
    Malformation(
        "gate_up_proj has an odd number of rows", "gate_up_proj",
        lambda a: a["gate_up_proj"][:, :-1],
    ),
    Malformation(
        "gate_up_proj has another dtype than hidden_states", "gate_up_proj",
        lambda a: _other_dtype(a["gate_up_proj"]),
    ),
    Malformation(
        "gate_up_proj has two dimensions", "gate_up_proj", lambda a: a["gate_up_proj"][0]
    ),
    Malformation(
        "down_proj has a column less than gate_up_proj's half", "down_proj",
        lambda a: a["down_proj"][:, :, :-1],
    ),
    Malformation(
        "down_proj has a row less than hidden_states' columns", "down_proj",
        lambda a: a["down_proj"][:, :-1],
    ),
    Malformation(
        "down_proj has another number of experts", "down_proj", lambda a: a["down_proj"][:-1]
    ),
    Malformation(
        "topk_ids is of a floating dtype", "topk_ids", lambda a: a["topk_ids"].to(torch.float32)
    ),
    Malformation(
        "topk_ids has a row less than hidden_states", "topk_ids", lambda a: a["topk_ids"][:-1]
    ),
    Malformation(
        "topk_weights has a column less than topk_ids", "topk_weights",
        lambda a: a["topk_weights"][:, :-1],
    ),
    Malformation(
        "topk_weights is of an integer dtype", "topk_weights",
        lambda a: a["topk_weights"].to(torch.int32),
    ),
    Malformation(
        "topk_ids is on another device", "topk_ids", lambda a: a["topk_ids"].to("meta")
    ),
)  # fmt: skip


def judge_rejects(trial: Trial) -> Finding:
    """Each malformation must raise an exception whose message names the spoilt argument.

    Figures: ``accepted`` (no exception), ``unnamed`` (an exception that does not name it).
    """
    accepted, unnamed = [], []
    for malformation in MALFORMATIONS:
        placed = trial.place(trial.inputs)
        arguments = {name: placed.tensors[name].tensor for name in placed.tensors}
        arguments[malformation.argument] = malformation.spoil(arguments)
        try:
            trial.implementation.fused_experts(*arguments.values())
        except Exception as error:
            if malformation.argument not in str(error):
                unnamed.append(f"{malformation.what} ({type(error).__name__}: {error})")
        else:
            accepted.append(malformation.what)
    figures = {"accepted": float(len(accepted)), "unnamed": float(len(unnamed))}
    if not accepted and not unnamed:
        return Finding(Outcome.PASS, figures=figures)
    parts = []
    if accepted:
        parts.append(f"accepted without an error: {'; '.join(accepted)}")
    if unnamed:
        parts.append(f"error does not name the argument: {'; '.join(unnamed)}")
    return Finding(Outcome.FAIL, ". ".join(parts), figures)


def _applies(case: AnyCase) -> bool:
    """A plain case with at least two of everything, so that each malformation is one."""
    if not isinstance(case, Case):
        return False
    problem = case.problem
    smallest = min(
        problem.num_tokens,
        problem.hidden_size,
        problem.intermediate_size,
        problem.num_experts,
        problem.top_k,
    )
    plain = case.layout is Layout.CONTIGUOUS and case.values is ValueFamily.RANDOM
    return smallest >= 2 and plain


REJECTS = Check(
    name="rejects",
    question="does bad input raise an error that names the argument?",
    applies=_applies,
    missing=missing_beside("validates"),
    judge=judge_rejects,
)
