"""Runs Triton kernels, compiled for an AMD GPU that is not there, in the emulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moeproof.amd.code_object import CodeObject, load_code_object
from moeproof.amd.launch import LaunchFigures, launch
from moeproof.amd.memory import AddressSpace


class CompiledKernels:
    """The code objects of a program's `VARIANTS`, such as triton_kernels.py's, for one GPU."""

    def __init__(self, program: str, arch: str, directory: Path) -> None:
        self.arch = arch
        self._program = Path(__file__).with_name(program)
        self._directory = directory
        self._loaded: dict[str, CodeObject] = {}

    @cached_property
    def directory(self) -> Path:
        # The interpreter, which the other tests run under, is chosen when triton is imported.
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        subprocess.run(
            [sys.executable, str(self._program), self.arch, str(self._directory)],
            check=True,
            env=environment,
        )
        return self._directory

    def code(self, name: str) -> CodeObject:
        if name not in self._loaded:
            self._loaded[name] = load_code_object((self.directory / f"{name}.hsaco").read_bytes())
        return self._loaded[name]

    def facts(self, name: str) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.directory / f"{name}.json").read_text())
        return facts

    def run(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        grid: tuple[int, ...],
        code: CodeObject | None = None,
        wave_order_seed: int | None = None,
        processes: int = 1,
    ) -> LaunchFigures:
        """Runs a kernel on CPU tensors, which are the only memory that it may touch."""
        facts = self.facts(name)
        memory = AddressSpace()
        values = []
        for argument in facts["arguments"]:
            value = arguments[argument]
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                memory.register(argument, storage.data_ptr(), storage.nbytes())
                value = value.data_ptr()
            values.append(value)
        x, y, z = (*grid, 1, 1)[:3]
        return launch(
            code or self.code(name),
            facts["kernel"],
            grid=(x, y, z),
            num_warps=facts["num_warps"],
            arguments=values,
            shared_bytes=facts["shared"],
            memory=memory,
            wave_order_seed=wave_order_seed,
            processes=processes,
        )


@pytest.fixture(scope="session")
def kernels_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CompiledKernels]:
    """(arch, program) -> its compiled kernels, compiled once."""
    known: dict[tuple[str, str], CompiledKernels] = {}

    def of(arch: str, program: str = "triton_kernels.py") -> CompiledKernels:
        if (arch, program) not in known:
            directory = tmp_path_factory.mktemp(arch)
            known[arch, program] = CompiledKernels(program, arch, directory)
        return known[arch, program]

    return of


@pytest.fixture(scope="session")
def random_tensor() -> Callable[..., torch.Tensor]:
    def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
        values = np.random.default_rng(seed).standard_normal(shape)
        return torch.from_numpy(values).to(dtype)

    return draw
