"""Compiles what an implementation launches, and launches nothing.

A driver for a GPU that is not there answers Triton; whatever an implementation launches in
representative calls is compiled for it and noted. Outputs stay as they were allocated: what an
implementation decides by reading results of its kernels on the host is not to be relied on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import triton

from moeproof.architectures import Architecture
from moeproof.targets import gcn, sass
from moeproof.targets.dots import read_dots
from moeproof.targets.facts import Configuration, FailedCall, KernelFacts, Resources, read_facts
from moeproof.targets.problems import Call
from moeproof.triton_driver import AbsentGpuDriver, install


class Recorder:
    """Makes Triton of this process compile for an architecture, and reads what it compiles."""

    def __init__(
        self, architecture: Architecture, *, compiled: Callable[[KernelFacts], object]
    ) -> None:
        """``compiled`` is given each kernel once, during the call that launches it first."""
        self._architecture = architecture
        self._tell = compiled
        self._call: Call | None = None
        self._told: set[str] = set()
        install(
            AbsentGpuDriver(
                architecture,
                load=lambda name, binary: None,
                launcher=lambda source, metadata: lambda *arguments: None,
            )
        )
        triton.knobs.compilation.listener = self._compiled

    def record(self, call: Call) -> FailedCall | None:
        """Make a call; its failure if it raised."""
        self._call = call
        try:
            call.launch()
        except Exception as error:
            message = f"{type(error).__name__}: {str(error).strip()[:2000]}"
            return FailedCall(self._architecture.name, call.name, message)
        return None

    def _compiled(
        self, *, src: Any, metadata: Mapping[str, Any], metadata_group: Mapping[str, str], **_: Any
    ) -> None:
        """Triton's compilation listener, called for code that comes from its cache as well."""
        if metadata["hash"] in self._told:
            return
        assert self._call is not None
        names = src.fn.arg_names
        configuration = Configuration(
            target=self._architecture.name,
            kernel=metadata["name"],
            dtype=self._call.dtype,
            problem=self._call.name,
            constants={names[path[0]]: _plain(value) for path, value in src.constants.items()},
            num_warps=metadata["num_warps"],
            num_stages=metadata["num_stages"],
            digest=metadata["hash"],
        )
        paths = {Path(path).suffix: Path(path) for path in metadata_group.values()}
        dots = read_dots(paths[".ttir"].read_text())
        read = _read_cubin if self._architecture.backend == "cuda" else _read_amdgcn
        facts = read(configuration, paths, shared_bytes=metadata["shared"], dots=dots)
        self._told.add(metadata["hash"])
        self._tell(facts)


def _read_cubin(
    configuration: Configuration, paths: Mapping[str, Path], *, shared_bytes: int, dots: Any
) -> KernelFacts:
    listing, usage = sass.disassemble(paths[".cubin"].read_bytes())
    resources = Resources({"vector": usage.registers}, usage.stack_bytes, shared_bytes)
    return read_facts(configuration, resources, listing, sass.Sass(), dots=dots)


def _read_amdgcn(
    configuration: Configuration, paths: Mapping[str, Path], *, shared_bytes: int, dots: Any
) -> KernelFacts:
    listing, usage = gcn.read_assembly(paths[".amdgcn"].read_text())
    registers = {
        "vector": usage.vector_registers,
        "accumulation": usage.accumulation_registers,
        "scalar": usage.scalar_registers,
    }
    resources = Resources(registers, usage.scratch_bytes, shared_bytes)
    opcodes, waits = _decoded(paths[".hsaco"].read_bytes())
    return read_facts(
        configuration,
        resources,
        listing,
        gcn.Gcn(),
        dots=dots,
        missing_waits=waits,
        opcodes=opcodes,
    )


def _decoded(binary: bytes) -> tuple[dict[str, int] | None, tuple[str, ...] | None]:
    """How often each instruction occurs, and the waits that are missing.

    None where no decoder is installed; what it cannot decode is as bad as a missing wait.
    """
    if find_spec("tinygrad") is None:
        return None, None
    from moeproof.amd.code_object import load_code_object
    from moeproof.amd.decoding import UnknownInstruction, disassemble
    from moeproof.amd.waits import missing_waits

    code = load_code_object(binary)
    opcodes: Counter[str] = Counter()
    try:
        opcodes.update(instruction.name for instruction in disassemble(code))
        waits = tuple(str(found) for name in code.kernels for found in missing_waits(code, name))
    except UnknownInstruction as error:
        waits = (f"not checked: {error}",)
    return dict(opcodes), waits


def _plain(value: object) -> object:
    """A compile-time argument as JSON can hold it."""
    value = getattr(value, "value", value)
    return value if isinstance(value, int | float | str | None) else str(value)
