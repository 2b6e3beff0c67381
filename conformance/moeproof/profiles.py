"""Which cases a run judges: the named profiles, from a quick look to all there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from moeproof import block_edge_cases, router_cases
from moeproof.case import Case, Layout, ValueFamily
from moeproof.case_id import AnyCase, parse_case_id
from moeproof.certification_list import certification_cases
from moeproof.curated_routing import curated_routings
from moeproof.devices import Device
from moeproof.exact_values import smallest_hidden_size
from moeproof.frozen_vectors import frozen_vectors
from moeproof.judge import checks_for
from moeproof.model_shapes import model_shapes
from moeproof.number_format import STORAGE_FORMATS
from moeproof.patterns import NEEDS_SIZES, PATTERNS
from moeproof.planned_case import PlannedCase
from moeproof.problem import Problem
from moeproof.regressions import regressions
from moeproof.router_case import RouterCase, RouterProblem

DTYPES = tuple(STORAGE_FORMATS)


@dataclass(frozen=True)
class Profile:
    """A named set of cases.

    Attributes:
        name, summary: for people.
        cases: device name -> the cases, in the order of the report.
        checks: those that it runs, where they apply; None for all.
    """

    name: str
    summary: str
    cases: Callable[[str], Iterable[AnyCase]]
    checks: frozenset[str] | None = None


def plan(profile: str, device_name: str) -> list[PlannedCase]:
    """The cases of a profile on a device with the checks of each; no case twice.

    Raises:
        ValueError: the profile is unknown; the message lists the known ones.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile {profile!r} is unknown; allowed: {', '.join(PROFILES)}")
    chosen = PROFILES[profile]
    cases = dict.fromkeys(chosen.cases(device_name))
    rejecting = _one_per_dtype(cases)

    def runs(check: str, case: AnyCase) -> bool:
        if check == "rejects" and case not in rejecting:
            return False
        return chosen.checks is None or check in chosen.checks

    return [
        PlannedCase(case, tuple(name for name in checks_for(case, device_name) if runs(name, case)))
        for case in cases
    ]


def _one_per_dtype(cases: Iterable[AnyCase]) -> set[AnyCase]:
    """What bad input does depends on the dtype alone: one case each is enough."""
    chosen: dict[str, AnyCase] = {}
    for case in cases:
        if "rejects" in checks_for(case, "cpu"):
            chosen.setdefault(case.problem.dtype, case)
    return set(chosen.values())


# Small problems: sizes that are no multiple of any tile, with several tiles along each axis.
_SMALL = (
    Problem(33, 64, 48, 8, 2, "bf16"),
    Problem(18, 72, 40, 7, 3, "bf16"),
    Problem(67, 48, 33, 6, 2, "bf16"),
)
# Sums longer than the 128 products after which some kernels move their accumulator.
_LONG_SUMS = Problem(3, 320, 272, 3, 2, "bf16")
_TOKENS = (0, 1, 2, 3, 15, 16, 17, 31, 32, 63, 65)
# Kernels may have code of their own for one token, and for a few that hardly share experts.
_FEW_TOKENS = (
    Problem(1, 72, 40, 8, 3, "bf16"),
    Problem(2, 72, 40, 64, 4, "bf16"),
    Problem(4, 48, 33, 80, 5, "bf16"),
)
_FEW_TOKENS_PATTERNS = ("uniform", "masked_slots", "duplicates", "zero_weights")
# The rows of one expert fill every tile that a schedule has room for, an odd number of them.
_ALL_TILES_USED = Problem(65, 64, 48, 1, 1, "bf16")
_EXPERTS_AND_TOP_K = (
    (1, 1), (2, 2), (7, 6), (8, 8), (10, 10), (16, 16), (64, 8), (129, 3), (192, 6), (256, 8),
    (257, 4), (384, 8), (512, 10), (1025, 2),
)  # fmt: skip
_SIZES = ((1, 1), (2, 1), (1, 7), (16, 16), (32, 16), (31, 37), (64, 32), (100, 50), (129, 65))
_RANDOM_VALUES = tuple(family for family in ValueFamily if not family.is_exact)
_EXACT_VALUES = tuple(family for family in ValueFamily if family.is_exact)


def _routing_cases(
    problems: Sequence[Problem], *, rounds: int = 1, first_seed: int = 0
) -> Iterator[Case]:
    """Every pattern on every problem, dtype and seed changing from one to the next.

    On three problems each pattern meets each dtype. The seed picks the metamorphic relation, so
    all relations have their turn.
    """
    seed = first_seed
    for turn in range(rounds):
        for row, problem in enumerate(problems):
            for column, name in enumerate(PATTERNS):
                seed += 1
                typed = _typed(problem, turn + row + column, DTYPES)
                if name not in NEEDS_SIZES and PATTERNS[name].misfit(typed, "") is None:
                    yield Case(typed, name, seed=seed)


def _size_cases(base: Problem, *, dtypes: tuple[str, ...], seed: int) -> Iterator[Case]:
    """Each size at its edges, the others as in ``base``."""
    for turn, tokens in enumerate(_TOKENS):
        yield Case(_typed(replace(base, num_tokens=tokens), turn, dtypes), "uniform", seed=seed)
    for turn, (experts, top_k) in enumerate(_EXPERTS_AND_TOP_K):
        small = experts > 100
        problem = replace(
            base,
            num_tokens=9 if small else base.num_tokens,
            hidden_size=24 if small else base.hidden_size,
            intermediate_size=20 if small else base.intermediate_size,
            num_experts=experts,
            top_k=top_k,
        )
        pattern = "high_ids" if small else "uniform"
        yield Case(_typed(problem, turn, dtypes), pattern, seed=seed)
    for turn, (hidden, intermediate) in enumerate(_SIZES):
        problem = replace(base, hidden_size=hidden, intermediate_size=intermediate)
        yield Case(_typed(problem, turn, dtypes), "zipf", seed=seed)


def _typed(problem: Problem, turn: int, dtypes: tuple[str, ...]) -> Problem:
    return replace(problem, dtype=dtypes[turn % len(dtypes)])


def _value_cases(problems: Iterable[Problem], *, seed: int) -> Iterator[Case]:
    """Every value family in every dtype."""
    for problem in problems:
        for dtype in DTYPES:
            for family in _RANDOM_VALUES:
                yield Case(replace(problem, dtype=dtype), "zipf", family, seed=seed)
        yield from _exact_cases(problem, seed=seed)


def _exact_cases(problem: Problem, *, seed: int) -> Iterator[Case]:
    """Every exact value family in every dtype, where the problem is wide enough."""
    if problem.hidden_size >= smallest_hidden_size():
        for dtype in DTYPES:
            for family in _EXACT_VALUES:
                yield Case(replace(problem, dtype=dtype), "uniform", family, seed=seed)


def _frozen_cases() -> Iterator[Case]:
    """Every exact case whose answer is frozen."""
    yield from (Case.parse(case_id) for case_id in frozen_vectors())


def _few_tokens_cases(*, seed: int) -> Iterator[Case]:
    """The edges of routing and of memory once more, with a few tokens."""
    for row, problem in enumerate(_FEW_TOKENS):
        for column, name in enumerate(_FEW_TOKENS_PATTERNS):
            yield Case(_typed(problem, row + column, DTYPES), name, seed=seed)
        for turn, layout in enumerate(Layout):
            typed = _typed(problem, row + turn, DTYPES)
            yield Case(typed, "uniform", layout=layout, seed=seed + 1)


def _layout_cases(problem: Problem, *, seed: int) -> Iterator[Case]:
    """Every layout in every dtype."""
    for dtype in DTYPES:
        for layout in Layout:
            yield Case(replace(problem, dtype=dtype), "half_to_one", layout=layout, seed=seed)


def _curated_cases(hidden_size: int, intermediate_size: int) -> Iterator[Case]:
    """Every curated routing, the dtype changing from one to the next."""
    for turn, (name, curated) in enumerate(curated_routings().items()):
        problem = Problem(
            curated.num_tokens,
            hidden_size,
            intermediate_size,
            curated.num_experts,
            curated.top_k,
            DTYPES[turn % len(DTYPES)],
        )
        yield Case(problem, f"curated:{name}")


def _model_cases(tokens: tuple[int, ...]) -> Iterator[AnyCase]:
    """The experts and the router of every known model, with small H and I."""
    for shape in model_shapes().values():
        for num_tokens in tokens:
            yield Case(shape.scaled_problem(num_tokens, dtype="bf16"), "zipf")
            yield shape.router_case(num_tokens)


def _quick(device_name: str) -> Iterator[AnyCase]:
    yield from _routing_cases(_SMALL)
    yield from _size_cases(_SMALL[0], dtypes=DTYPES, seed=1)
    yield Case(_ALL_TILES_USED, "uniform")
    yield from _value_cases(_SMALL[1:2], seed=2)
    yield from _exact_cases(_LONG_SUMS, seed=2)
    yield from _frozen_cases()
    yield from _layout_cases(_SMALL[2], seed=3)
    yield from _curated_cases(40, 24)
    yield from _model_cases((5,))
    yield from _few_tokens_cases(seed=4)
    yield from router_cases.small()
    yield from (parse_case_id(kept.case_id) for kept in regressions().values())


def _standard(device_name: str) -> Iterator[AnyCase]:
    yield from _quick(device_name)
    yield from _routing_cases(_SMALL, rounds=4, first_seed=1000)
    for turn, dtype in enumerate(DTYPES):
        yield from _size_cases(_SMALL[turn], dtypes=(dtype,), seed=20 + turn)
    yield from _value_cases(_SMALL, seed=30)
    yield from router_cases.large()
    if Device(device_name).is_gpu:
        yield from _gpu_sizes()


def _exhaustive(device_name: str) -> Iterator[AnyCase]:
    yield from _standard(device_name)
    yield from _routing_cases(_SMALL, rounds=24, first_seed=10000)
    for seed in range(200, 208):
        for problem in _SMALL:
            for dtype in DTYPES:
                yield from _size_cases(problem, dtypes=(dtype,), seed=seed)
        yield from _value_cases(_SMALL, seed=seed)


# Problems that an interpreter would take minutes for: many tiles, long sums, over 65,535 slots.
_LARGE = (
    Problem(300, 512, 384, 8, 2, "bf16"),
    Problem(1000, 256, 192, 64, 6, "bf16"),
    Problem(64, 2048, 1024, 8, 2, "bf16"),
    Problem(2049, 384, 256, 16, 4, "bf16"),
)
_MANY_SLOTS = (Problem(70001, 16, 24, 8, 1, "bf16"), Problem(12000, 16, 24, 32, 6, "bf16"))


def _gpu_sizes() -> Iterator[AnyCase]:
    for turn, problem in enumerate(_LARGE):
        for name in ("uniform", "zipf", "same_experts", "tile_edges", "masked_slots"):
            for dtype in DTYPES:
                yield Case(replace(problem, dtype=dtype), name, seed=turn)
        yield Case(problem, "uniform", ValueFamily.EXACT_DOWN)
        yield Case(problem, "uniform", ValueFamily.EXACT_UP)
    for problem in _MANY_SLOTS:
        yield Case(problem, "zipf")
    yield from _model_cases((1, 33, 256))
    yield from block_edge_cases.large()


# What the emulator runs in full; on its other GPUs one case a dtype and the router.
_EMULATED_IN_FULL = ("gfx942", "gfx950")
# Not those that ask the same of the source whatever executes it, as the CPU's run does: an emulator
# repeats itself anyhow.
_EMULATED_CHECKS = frozenset({"accuracy", "exact", "memory", "rounding", "routing"})


def _emulated(device_name: str) -> Iterator[AnyCase]:
    if not Device(device_name).is_emulated or device_name in _EMULATED_IN_FULL:
        yield from _quick(device_name)
        return
    for dtype in DTYPES:
        yield Case(replace(_SMALL[0], dtype=dtype), "zipf")
    yield RouterCase(RouterProblem(9, 64, 6, scoring="sigmoid", has_bias=True))


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "quick",
            "every pattern, value family, layout and size edge once, and what once failed",
            _quick,
        ),
        Profile("standard", "more seeds; on a GPU also large problems, edges of blocks", _standard),
        Profile(
            "certification",
            "the must-pass list, fixed for this version: see moeproof certify",
            certification_cases,
        ),
        Profile("exhaustive", "many seeds of everything; hours under an interpreter", _exhaustive),
        Profile(
            "emulated",
            "results and memory accesses: as quick on gfx942 and gfx950, elsewhere a case a dtype",
            _emulated,
            _EMULATED_CHECKS,
        ),
    )
}
