"""A Triton driver that launches into the emulator: ordinary Triton code runs on an AMD GPU that is
not there, with tensors on the CPU.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from moeproof.amd.code_object import CodeObject, load_code_object
from moeproof.amd.launch import LaunchFigures, launch
from moeproof.amd.lds_record import LdsRace
from moeproof.amd.memory import AddressSpace
from moeproof.architectures import ARCHITECTURES
from moeproof.owned_memory import owned_bytes
from moeproof.triton_driver import AbsentGpuDriver, Launcher, install


class RaceError(Exception):
    """Two waves of a workgroup accessed the same bytes of LDS with no barrier in between."""


@dataclass
class EmulatorFigures:
    """What all launches together did.

    Attributes:
        launches, waves: how many.
        opcodes: instructions executed by name, counting each wave.
        seconds_translating, seconds_executing: processor time.
    """

    launches: int = 0
    waves: int = 0
    opcodes: Counter[str] = field(default_factory=Counter)
    seconds_translating: float = 0.0
    seconds_executing: float = 0.0

    def add(self, figures: LaunchFigures) -> None:
        """Add one launch."""
        self.launches += 1
        self.waves += figures.waves
        self.opcodes += figures.opcodes
        self.seconds_translating += figures.seconds_translating
        self.seconds_executing += figures.seconds_executing


class EmulatedGpu:
    """An AMD GPU in this process. :meth:`install` makes Triton use it.

    A kernel may access the memory of the tensors that it is given, and no other: their whole
    storage, or what :mod:`moeproof.owned_memory` leaves of it. A kernel that is given the address
    of a tensor as a number, or in another tensor, faults there.

    Args:
        arch: one of :data:`moeproof.amd.decoding.ARCHITECTURES`.
        wave_order_seed: run waves one after another in an order drawn from it, not together.
        processes: among how many the workgroups of a long launch are divided; None for as many as
            there are cores for this process.
    """

    def __init__(
        self, arch: str, *, wave_order_seed: int | None = None, processes: int | None = None
    ) -> None:
        self.arch = arch
        self.figures = EmulatorFigures()
        self._wave_order_seed = wave_order_seed
        self._processes = len(os.sched_getaffinity(0)) if processes is None else processes

    def install(self) -> None:
        """Make Triton of this process compile for this GPU and launch into it."""
        architecture = ARCHITECTURES[self.arch]
        install(AbsentGpuDriver(architecture, load=_load, launcher=self._launcher))

    def _launcher(self, source: Any, metadata: Any) -> Launcher:
        """What launches a kernel compiled from ``source``."""
        names = source.fn.arg_names
        types = list(source.signature.values())

        def run(x: int, y: int, z: int, stream: int, function: Any, *rest: Any) -> None:
            _packed, launch_metadata, enter, leave, *arguments = rest
            if enter is not None:
                enter(launch_metadata)
            if x * y * z:
                code, name = function
                self._run(
                    code, name, (x, y, z), metadata, [*zip(names, types, arguments, strict=True)]
                )
            if leave is not None:
                leave(launch_metadata)

        return run

    def _run(
        self,
        code: CodeObject,
        name: str,
        grid: tuple[int, int, int],
        metadata: Any,
        arguments: Sequence[tuple[str, Any, Any]],
    ) -> None:
        memory = AddressSpace()
        values = [
            value
            for argument, kind, given in arguments
            for value in _values(argument, kind, given, memory)
        ]
        figures = launch(
            code,
            name,
            grid=grid,
            num_warps=metadata.num_warps,
            arguments=values,
            shared_bytes=metadata.shared,
            memory=memory,
            wave_order_seed=self._wave_order_seed,
            processes=self._processes,
        )
        self.figures.add(figures)
        if figures.lds_races:
            raise RaceError(_race_text(name, figures.lds_races))


def _load(name: str, binary: bytes) -> tuple[CodeObject, str]:
    return load_code_object(binary), name


def _values(name: str, kind: Any, given: Any, memory: AddressSpace) -> Iterator[int | float]:
    """The numbers that an argument becomes; memory behind pointers is allowed to be accessed.

    Args:
        name: for people.
        kind: Triton's type: ``*bf16``, ``i32``, ``fp32``, ``constexpr``, ``tensordesc<...>``, or a
            tuple of them.
        given: what the caller gave.
        memory: takes the allocation.
    """
    if kind == "constexpr":
        return
    if isinstance(kind, tuple | list):
        for number, (inner, part) in enumerate(zip(kind, given, strict=True)):
            yield from _values(f"{name}[{number}]", inner, part, memory)
    elif kind.startswith("tensordesc"):
        yield from _descriptor_values(name, given, memory)
    elif kind.startswith("*"):
        yield _pointer(name, given, memory)
    elif kind.startswith(("fp", "bf")):
        yield float(given)
    else:
        yield int(given)


def _descriptor_values(name: str, given: Any, memory: AddressSpace) -> Iterator[int]:
    """A host-side tensor descriptor, as Triton takes it apart for GPUs without such a thing."""
    yield _pointer(name, given.base, memory)
    yield from given.shape
    yield from given.strides
    yield int(given.padding == "nan")
    if hasattr(given, "round_f32_to_tf32"):  # from Triton 3.7 on
        yield int(given.round_f32_to_tf32)
    yield from given.shape
    yield from given.strides


def _pointer(name: str, given: Any, memory: AddressSpace) -> int:
    if given is None:
        return 0
    if isinstance(given, int):
        return given
    tensor = getattr(given, "base", given)  # triton.reinterpret wraps a tensor
    if isinstance(tensor, torch.Tensor):
        if tensor.device.type != "cpu":
            raise ValueError(f"{name}: on device {tensor.device}; an emulated GPU's are on the CPU")
        memory.register(name, *owned_bytes(tensor))
    return int(given.data_ptr())


def _race_text(name: str, races: Sequence[LdsRace]) -> str:
    return f"kernel {name}: {len(races)} races in LDS, the first: {races[0]}"
