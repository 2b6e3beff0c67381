"""What is read from one compiled kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moeproof.architectures import ARCHITECTURES
from moeproof.targets.dots import Dot
from moeproof.targets.instruction_set import InstructionSet
from moeproof.targets.listing import Instruction, Listing, Loop
from moeproof.targets.occupancy import Occupancy, estimate_occupancy


@dataclass(frozen=True)
class MainLoop:
    """The innermost loop with the most matrix instructions.

    Attributes:
        instructions: of one turn.
        matrix: matrix instructions of one turn.
        k: of the source's dots in the loop: elements of the sums that one turn adds.
        work: multiplications that the program's warps carry out in one turn, divided by those of
            the source's dots in loops. 1 is right; 2 is a loop unrolled twice, or warps that do the
            same work. None where an instruction does not tell its shape, or where dots are in
            several loops.
        spills: registers saved to memory or fetched from there, in instructions.
        wide_addresses: 64-bit integer instructions.
        global_loads: (kind, bytes a lane) of a
            :class:`moeproof.targets.instruction_set.MemoryLoad` -> instructions.
        shared_loads: bytes a lane -> instructions.
        matrix_ahead: the fewest matrix instructions between a load into registers and the first
            use of what it brought; None without such loads. 0 means that the loop waits for it.
        matrix_waits: instructions that wait until all matrix instructions before them have ended.
    """

    instructions: int
    matrix: int
    k: int
    work: float | None
    spills: int
    wide_addresses: int
    global_loads: Mapping[tuple[str, int], int]
    shared_loads: Mapping[int, int]
    matrix_ahead: int | None
    matrix_waits: int


@dataclass(frozen=True)
class Configuration:
    """A kernel in one of the ways that it was compiled.

    Attributes:
        target: the architecture's name.
        kernel: the function's name.
        dtype: of the problem that launched it first.
        problem: the first problem that launched it.
        constants: the compile-time arguments by name.
        num_warps, num_stages: Triton's options.
        digest: Triton's hash of source, arguments, options and target.
    """

    target: str
    kernel: str
    dtype: str
    problem: str
    constants: Mapping[str, object]
    num_warps: int
    num_stages: int
    digest: str


@dataclass(frozen=True)
class Resources:
    """What a kernel takes, by its metadata.

    Attributes:
        registers: "vector", and on AMD "accumulation" (a part of the vector registers) and
            "scalar" -> how many; of a lane, or of a wave if scalar.
        scratch_bytes: memory of a lane for what does not fit into registers.
        shared_bytes: of one program.
    """

    registers: Mapping[str, int]
    scratch_bytes: int
    shared_bytes: int


@dataclass(frozen=True)
class KernelFacts:
    """One kernel, compiled for one target in one configuration.

    Attributes:
        configuration, resources: see there.
        shared_limit: bytes of shared memory that the architecture gives a program.
        instructions: of the kernel.
        dots: the matrix products of the source.
        matrix: instruction -> how many, in the whole kernel.
        matrix_paths: which matrix units.
        wide_addresses: 64-bit integer instructions in the whole kernel.
        global_loads: as in the main loop, for the whole kernel.
        spills: instructions that save a register to memory or fetch it from there.
        spills_in_loops: those of them inside any loop.
        main_loop: None if no loop has matrix instructions.
        occupancy: an estimate.
        missing_waits: AMD: results of memory instructions that are used too early, in words, by
            :mod:`moeproof.amd.waits`; None where that was not checked.
        opcodes: AMD: instruction, as :mod:`moeproof.amd.decoding` names it -> how often the binary
            holds it; None where no decoder is installed.
    """

    configuration: Configuration
    resources: Resources
    shared_limit: int
    instructions: int
    dots: tuple[Dot, ...]
    matrix: Mapping[str, int]
    matrix_paths: tuple[str, ...]
    wide_addresses: int
    global_loads: Mapping[tuple[str, int], int]
    spills: int
    spills_in_loops: int
    main_loop: MainLoop | None
    occupancy: Occupancy
    missing_waits: tuple[str, ...] | None
    opcodes: Mapping[str, int] | None


@dataclass(frozen=True)
class Versions:
    """Of the implementation, as it says it, and of the Triton that compiled."""

    implementation: str = ""
    triton: str = ""


@dataclass(frozen=True)
class FailedCall:
    """A call that raised (no code for this target, or more than it has), hung or crashed.

    Attributes:
        target, problem: where.
        message: the error.
    """

    target: str
    problem: str
    message: str


def read_facts(
    configuration: Configuration,
    resources: Resources,
    listing: Listing,
    questions: InstructionSet,
    *,
    dots: tuple[Dot, ...],
    missing_waits: tuple[str, ...] | None = None,
    opcodes: Mapping[str, int] | None = None,
) -> KernelFacts:
    """The facts of a kernel from its listing and its metadata."""
    architecture = ARCHITECTURES[configuration.target]
    matrix = [i for i in listing.instructions if questions.matrix_path(i) is not None]
    loop = listing.loop_with_most(lambda i: questions.matrix_path(i) is not None)
    return KernelFacts(
        configuration=configuration,
        resources=resources,
        shared_limit=architecture.shared_limit,
        instructions=len(listing.instructions),
        dots=dots,
        matrix=dict(Counter(instruction.opcode for instruction in matrix)),
        matrix_paths=tuple(sorted({str(questions.matrix_path(i)) for i in matrix})),
        wide_addresses=sum(map(questions.wide_address, listing.instructions)),
        global_loads=_loads(listing.instructions, questions),
        spills=sum(map(questions.spills, listing.instructions)),
        spills_in_loops=sum(map(questions.spills, _inside(listing, listing.loops))),
        main_loop=(
            None
            if loop is None
            else _main_loop(listing.body(loop), questions, dots, configuration.num_warps)
        ),
        occupancy=estimate_occupancy(
            architecture,
            num_warps=configuration.num_warps,
            registers=resources.registers["vector"],
            shared_bytes=resources.shared_bytes,
        ),
        missing_waits=missing_waits,
        opcodes=opcodes,
    )


def _inside(listing: Listing, loops: Sequence[Loop]) -> list[Instruction]:
    return [
        instruction
        for number, instruction in enumerate(listing.instructions)
        if any(loop.first <= number <= loop.last for loop in loops)
    ]


def _loads(
    instructions: Sequence[Instruction], questions: InstructionSet
) -> dict[tuple[str, int], int]:
    loads = map(questions.global_load, instructions)
    return dict(Counter((load.kind, load.width) for load in loads if load is not None))


def _main_loop(
    body: Sequence[Instruction], questions: InstructionSet, dots: Sequence[Dot], num_warps: int
) -> MainLoop:
    looped = [dot for dot in dots if dot.loop is not None]
    shared = (questions.shared_load_width(instruction) for instruction in body)
    matrix = [instruction for instruction in body if questions.matrix_path(instruction)]
    return MainLoop(
        instructions=len(body),
        matrix=len(matrix),
        k=max((dot.k for dot in looped), default=0),
        work=_work(matrix, questions, looped, num_warps),
        spills=sum(map(questions.spills, body)),
        wide_addresses=sum(map(questions.wide_address, body)),
        global_loads=_loads(body, questions),
        shared_loads=dict(Counter(width for width in shared if width is not None)),
        matrix_ahead=_matrix_ahead(body, questions),
        matrix_waits=sum(map(questions.waits_for_products, body)),
    )


def _work(
    matrix: Sequence[Instruction],
    questions: InstructionSet,
    dots: Sequence[Dot],
    num_warps: int,
) -> float | None:
    if len({dot.loop for dot in dots}) != 1:  # which of the source's loops this is, is not known
        return None
    asked = sum(dot.products for dot in dots)
    done = 0
    for instruction in matrix:
        products = questions.matrix_products(instruction)
        if products is None:
            return None
        done += products * num_warps // questions.warps_at_once(instruction)
    return done / asked


def _matrix_ahead(body: Sequence[Instruction], questions: InstructionSet) -> int | None:
    distances = []
    for start, instruction in enumerate(body):
        load = questions.global_load(instruction)
        if load is None or not load.destination:
            continue
        matrix = 0
        for later in (*body[start + 1 :], *body[:start]):
            if load.destination & questions.registers(later.operands):
                break
            matrix += questions.matrix_path(later) is not None
        distances.append(matrix)
    return min(distances, default=None)
