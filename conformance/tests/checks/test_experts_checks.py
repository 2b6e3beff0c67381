"""Each check passes a right implementation and catches the faults that are its business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from moeproof.case import Case, Layout
from moeproof.case_id import parse_case_id
from moeproof.checks import CHECKS
from moeproof.checks.metamorphic import relation_of
from moeproof.checks.relations import RELATIONS, Relation
from moeproof.devices import Device
from moeproof.implementation import Capabilities, Implementation
from moeproof.inputs import make_inputs
from moeproof.judge import checks_for, judge, make_trial
from moeproof.verdict import Outcome, Verdict

CAPABILITIES = Capabilities(
    layouts=frozenset(Layout), masked_ids=True, subnormals=True, deterministic=True, validates=True
)
Experts = Callable[..., torch.Tensor]


def right(
    hidden_states: torch.Tensor,
    gate_up_proj: torch.Tensor,
    down_proj: torch.Tensor,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
) -> torch.Tensor:
    """Row by row in float32, so that a token's bits depend on nothing else."""
    output = torch.zeros_like(hidden_states, dtype=torch.float32)
    for token, slot in torch.cartesian_prod(
        torch.arange(topk_ids.shape[0]), torch.arange(topk_ids.shape[1])
    ).tolist():
        expert = int(topk_ids[token, slot])
        if 0 <= expert < gate_up_proj.shape[0]:
            gate_up = gate_up_proj[expert].float() @ hidden_states[token].float()
            gate, up = gate_up.chunk(2)
            silu = (torch.nn.functional.silu(gate) * up).to(hidden_states.dtype).float()
            output[token] += topk_weights[token, slot] * (down_proj[expert].float() @ silu)
    return output.to(hidden_states.dtype)


def verdict(case_id: str, check: str, experts: Experts = right, **claims: object) -> Verdict:
    capabilities = replace(CAPABILITIES, **claims)  # type: ignore[arg-type]
    implementation = Implementation("subject", experts, capabilities=capabilities)
    trial = make_trial(parse_case_id(case_id), implementation, Device("cpu"))
    return judge(trial, check)


RANDOM = "T9-H24-I20-E4-K2-bf16/uniform/random/contiguous/0"


def with_seed_for(relation_name: str, pattern: str = "empty_first") -> str:
    """A case that the relation of this name judges."""
    for seed in range(len(RELATIONS)):
        case = Case.parse(f"T9-H24-I20-E4-K2-bf16/{pattern}/random/contiguous/{seed}")
        if relation_of(case).name == relation_name:
            return case.case_id
    raise AssertionError(relation_name)


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize(
    "rest",
    [
        "uniform/random/contiguous/0",
        "masked_slots/per_expert/row_padded/1",
        "zipf/cancelling/transposed/2",
        "duplicates/huge/offset/3",
        "zero_weights/tiny/contiguous/4",
        "uniform/exact_up/contiguous/5",
        "uniform/exact_gate/contiguous/6",
        "zipf/exact_down/far_apart/7",
        "uniform/subnormal/contiguous/8",
    ],
)
def test_a_right_implementation_passes(dtype: str, rest: str) -> None:
    case_id = f"T9-H24-I20-E4-K2-{dtype}/{rest}"
    for check in checks_for(parse_case_id(case_id), "cpu"):
        if check != "rejects":
            result = verdict(case_id, check)
            assert result.outcome is Outcome.PASS, result.message


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("claimed", [True, False])
def test_every_relation_holds_for_a_right_implementation(
    relation: object, dtype: str, claimed: bool
) -> None:
    case_id = with_seed_for(relation.name).replace("bf16", dtype)  # type: ignore[attr-defined]
    claims = dict.fromkeys(("position_invariant", "batch_invariant", "expert_invariant"), claimed)
    result = verdict(case_id, "metamorphic", **claims)
    assert result.outcome is Outcome.PASS, result.message


def test_no_tokens_and_masked_tokens_pass() -> None:
    for case_id in (
        "T0-H24-I20-E4-K2-bf16/uniform/random/contiguous/0",
        "T9-H24-I20-E4-K2-bf16/masked_all/random/contiguous/0",
    ):
        for check in ("accuracy", "memory", "determinism"):
            assert verdict(case_id, check).outcome is Outcome.PASS


def zeros(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(x)


def gate_and_up_swapped(
    x: torch.Tensor, gate_up: torch.Tensor, *rest: torch.Tensor
) -> torch.Tensor:
    return right(x, torch.cat(gate_up.chunk(2, dim=1)[::-1], dim=1), *rest)


def last_hidden_column_lost(
    x: torch.Tensor, gate_up: torch.Tensor, *rest: torch.Tensor
) -> torch.Tensor:
    x = x.clone()
    x[:, -1] = 0
    return right(x, gate_up, *rest)


def second_slot_dropped(*arguments: torch.Tensor) -> torch.Tensor:
    return right(*arguments[:3], arguments[3][:, :1], arguments[4][:, :1])


def weight_of_next_row(*arguments: torch.Tensor) -> torch.Tensor:
    return right(*arguments[:4], arguments[4].roll(1, dims=0))


def masked_wraps_to_last_expert(
    x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor, ids: torch.Tensor, w: torch.Tensor
) -> torch.Tensor:
    return right(x, gate_up, down, ids % gate_up.shape[0], w)


def one_row_not_a_number(*arguments: torch.Tensor) -> torch.Tensor:
    output = right(*arguments)
    output[3] = float("nan")
    return output


def twice(check: str) -> Experts:
    """Right at the first call, wrong at later ones."""
    calls = []

    def experts(*arguments: torch.Tensor) -> torch.Tensor:
        calls.append(check)
        output = right(*arguments)
        return output if len(calls) == 1 else output.nextafter(torch.zeros_like(output))

    return experts


@pytest.mark.parametrize(
    "fault",
    [
        zeros,
        gate_and_up_swapped,
        last_hidden_column_lost,
        second_slot_dropped,
        weight_of_next_row,
        one_row_not_a_number,
    ],
)
def test_accuracy_catches(fault: Experts) -> None:
    result = verdict(RANDOM, "accuracy", fault)
    assert result.outcome is Outcome.FAIL
    assert result.worst is not None
    assert result.worst.ratio > 1
    assert f"moeproof replay '{RANDOM}'" in result.reproducer
    assert sum(result.evidence["tokens_per_expert"]) == 18


def test_accuracy_names_the_row() -> None:
    result = verdict(RANDOM, "accuracy", one_row_not_a_number)
    assert result.worst is not None
    assert result.worst.token == 3
    assert "token 3" in result.message


def test_accuracy_catches_errors_that_are_inside_but_too_large() -> None:
    def coarse(*arguments: torch.Tensor) -> torch.Tensor:
        return (right(*arguments).double() * (1 + 2.0**-18)).float()

    result = verdict(RANDOM.replace("bf16", "fp32"), "accuracy", coarse)
    assert result.outcome is Outcome.FAIL
    assert result.figures["r_statistic"] > 1.6


def test_masked_ids_that_wrap_are_caught() -> None:
    case_id = RANDOM.replace("uniform", "masked_slots")
    result = verdict(case_id, "accuracy", masked_wraps_to_last_expert)
    assert result.outcome is Outcome.FAIL


def test_exact_catches_one_unit_in_the_last_place() -> None:
    def nearly(*arguments: torch.Tensor) -> torch.Tensor:
        output = right(*arguments)
        output[2, 5] = output[2, 5].nextafter(torch.tensor(1e4, dtype=output.dtype))
        return output

    result = verdict("T9-H24-I20-E4-K2-fp32/uniform/exact_up/contiguous/0", "exact", nearly)
    assert result.outcome is Outcome.FAIL
    assert "token 2, column 5" in result.message


def test_determinism_catches_a_changing_bit() -> None:
    fp32 = RANDOM.replace("bf16", "fp32")
    assert verdict(fp32, "determinism", twice("bits")).outcome is Outcome.FAIL
    assert verdict(fp32, "determinism", deterministic=False).outcome is Outcome.UNSUPPORTED


def test_determinism_catches_an_output_that_a_later_call_overwrites() -> None:
    workspace = torch.empty(9, 24, dtype=torch.bfloat16)

    def one_workspace_for_all_calls(*arguments: torch.Tensor) -> torch.Tensor:
        return workspace.copy_(right(*arguments))

    result = verdict(RANDOM, "determinism", one_workspace_for_all_calls)
    assert result.outcome is Outcome.FAIL
    assert "before a later call" in result.message


def test_determinism_sees_the_state_that_a_single_token_leaves_behind() -> None:
    answers: list[torch.Tensor] = []

    def one_call_late(*arguments: torch.Tensor) -> torch.Tensor:
        answers.append(right(*arguments))
        return answers[max(len(answers) - 2, 0)].clone()

    single = RANDOM.replace("T9", "T1")
    assert verdict(single, "determinism").outcome is Outcome.PASS
    assert verdict(single, "determinism", one_call_late).outcome is Outcome.FAIL


def writes_its_input(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    output = right(x, *rest)
    x[0, 0] = 7
    return output


def writes_past_its_input(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    output = right(x, *rest)
    x.as_strided((1,), (1,), x.storage_offset() + x.numel()).fill_(0)
    return output


def reads_unwritten_memory(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    workspace = torch.empty(x.shape, dtype=torch.float32)
    workspace[: len(x) - 1] = right(x, *rest)[:-1].float()
    return workspace.to(x.dtype)


def writes_past_its_output(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    output = torch.empty_like(x)
    output.copy_(right(x, *rest))
    output.as_strided((1,), (1,), output.storage_offset() + output.numel()).fill_(0)
    return output


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (writes_its_input, "values of hidden_states"),
        (writes_past_its_input, "guard zone of hidden_states"),
        (reads_unwritten_memory, "elements in 1 of 9 tokens"),
        (writes_past_its_output, "after an allocated tensor of shape (9, 24)"),
    ],
)
def test_memory_catches(fault: Experts, complaint: str) -> None:
    result = verdict(RANDOM, "memory", fault)
    assert result.outcome is Outcome.FAIL
    assert complaint in result.message


def steps_over_poison(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    """A schedule with an entry too many: the token that it happens to name counts twice."""
    schedule = torch.empty(len(x) + 1, dtype=torch.int32)
    schedule[: len(x)] = torch.arange(len(x))
    rows = schedule[(schedule >= 0) & (schedule < len(x))].long()
    return torch.zeros_like(x).index_add(0, rows, right(x, *rest)[rows])


def test_memory_that_looks_like_values_is_caught_too() -> None:
    assert verdict(RANDOM, "memory", steps_over_poison).outcome is Outcome.PASS
    assert verdict(f"{RANDOM}/ones", "memory").outcome is Outcome.PASS
    caught = verdict(f"{RANDOM}/ones", "memory", steps_over_poison)
    assert caught.outcome is Outcome.FAIL
    assert "worst: token 1," in caught.message


def depends_on_position(*arguments: torch.Tensor) -> torch.Tensor:
    output = right(*arguments)
    output[0] *= 1 + 2.0**-6
    return output


def reads_idle_experts(x: torch.Tensor, gate_up: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    return right(x, gate_up, *rest) + (gate_up[0, 0, 0] * 2.0**-6).to(x.dtype)


SEVERAL = [
    Case.parse(f"T{tokens}-H24-I20-E9-K2-bf16/uniform/random/contiguous/0") for tokens in (2, 3)
]
SINGLE = Case.parse("T1-H24-I20-E1-K1-bf16/uniform/random/contiguous/0")


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_a_relation_that_fits_changes_the_inputs(relation: Relation) -> None:
    cases = [replace(case, seed=seed) for case in (*SEVERAL, SINGLE) for seed in range(8)]
    fitting = [case for case in cases if relation.fits(case)]
    assert fitting
    for case in fitting:
        inputs = make_inputs(case)
        changed = relation.transform(inputs, case)
        before = (changed.compared_with or inputs).arrays()
        after = changed.inputs.arrays()
        assert any(before[name].tobytes() != after[name].tobytes() for name in before)


@pytest.mark.parametrize(
    ("relation", "fault"),
    [("token permutation", depends_on_position), ("idle experts", reads_idle_experts)],
)
def test_metamorphic_catches(relation: str, fault: Experts) -> None:
    result = verdict(with_seed_for(relation), "metamorphic", fault, position_invariant=True)
    assert result.outcome is Outcome.FAIL
    assert relation in result.message


def test_rejects_wants_errors_that_name_the_argument() -> None:
    def strict(*arguments: torch.Tensor) -> torch.Tensor:
        shapes = [tuple(argument.shape) for argument in arguments]
        raise ValueError(
            f"hidden_states, gate_up_proj, down_proj, topk_ids, topk_weights: {shapes}"
        )

    def silent(*arguments: torch.Tensor) -> torch.Tensor:
        return arguments[0]

    assert verdict(RANDOM, "rejects", strict).outcome is Outcome.PASS
    accepted = verdict(RANDOM, "rejects", silent)
    assert accepted.outcome is Outcome.FAIL
    assert "accepted without an error: hidden_states has one dimension" in accepted.message
    unnamed = verdict(RANDOM, "rejects")
    assert "does not name the argument" in unnamed.message
    assert verdict(RANDOM, "rejects", validates=False).outcome is Outcome.UNSUPPORTED


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (lambda x: x[:-1], "shape (8, 24)"),
        (lambda x: x.double(), "dtype torch.float64"),
        (lambda x: x.to("meta"), "on meta"),
        (lambda x: None, "NoneType"),
    ],
)
def test_a_result_that_breaks_the_contract_fails(
    result: Callable[[torch.Tensor], object], complaint: str
) -> None:
    found = verdict(RANDOM, "accuracy", lambda x, *rest: result(x))  # type: ignore[arg-type]
    assert found.outcome is Outcome.FAIL
    assert complaint in found.message


def test_an_exception_is_an_error_with_its_place() -> None:
    def broken(*arguments: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    result = verdict(RANDOM, "accuracy", broken)
    assert result.outcome is Outcome.ERROR
    assert "RuntimeError: no such kernel" in result.message
    assert "test_experts_checks.py" in result.message


def test_what_is_not_claimed_is_unsupported() -> None:
    assert verdict(RANDOM, "accuracy", dtypes=frozenset({"fp32"})).outcome is Outcome.UNSUPPORTED
    masked = RANDOM.replace("uniform", "masked_slots")
    assert verdict(masked, "accuracy", masked_ids=False).outcome is Outcome.UNSUPPORTED
    strided = RANDOM.replace("contiguous", "transposed")
    unclaimed = verdict(strided, "accuracy", layouts=frozenset({Layout.CONTIGUOUS}))
    assert unclaimed.message == "layout transposed is not claimed"


def test_a_vacuous_case_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the inputs were so small that zeros would pass, the case would say nothing."""
    from moeproof import trial

    def tiny(case: Case) -> object:
        made = make(case)
        return replace(made, topk_weights=made.topk_weights * 0 + 2.0**-149)

    make = trial.make_inputs
    monkeypatch.setattr(trial, "make_inputs", tiny)
    result = verdict(RANDOM.replace("bf16", "fp16"), "accuracy")
    assert result.outcome is Outcome.ERROR
    assert "zeros would pass" in result.message


def test_checks_have_distinct_names_and_questions() -> None:
    assert all(name == check.name for name, check in CHECKS.items())
    assert len({check.question for check in CHECKS.values()}) == len(CHECKS)
