"""Implementations that misbehave on some numbers of tokens, and are right on all others.

``fused_experts`` does it all, one way for each number of tokens: see ``BEHAVIOURS``.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from moeproof import loaded_subject

sys.path.insert(0, str(Path(__file__).parent))
import right


def raises(*arguments: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no such tile")


def raises_what_cannot_be_printed(*arguments: torch.Tensor) -> torch.Tensor:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    raise UnprintableError


def returns_wrong_shape(*arguments: torch.Tensor) -> torch.Tensor:
    return arguments[0][:-1]


def returns_wrong_dtype(*arguments: torch.Tensor) -> torch.Tensor:
    return arguments[0].double()


def returns_wrong_device(*arguments: torch.Tensor) -> torch.Tensor:
    return arguments[0].to("meta")


def returns_nan(*arguments: torch.Tensor) -> torch.Tensor:
    return torch.full_like(arguments[0], torch.nan)


def returns_none(*arguments: torch.Tensor) -> None:
    return None


def writes_past_its_input(*arguments: torch.Tensor) -> torch.Tensor:
    hidden_states = arguments[0]
    end = hidden_states.storage_offset() + hidden_states.numel()
    hidden_states.as_strided((1,), (1,), end).fill_(1.0)
    return right.fused_experts(*arguments)


def writes_its_input(*arguments: torch.Tensor) -> torch.Tensor:
    output = right.fused_experts(*arguments)
    arguments[0].copy_(output)
    return output


def prints_garbage(*arguments: torch.Tensor) -> torch.Tensor:
    garbage = bytes(range(256)) * 1000
    for stream in (1, 2):
        os.write(stream, garbage)
    print("a line", file=sys.stdout)
    return right.fused_experts(*arguments)


def closes_its_standard_streams(*arguments: torch.Tensor) -> torch.Tensor:
    os.close(1)
    os.close(2)
    return right.fused_experts(*arguments)


def hangs(*arguments: torch.Tensor) -> torch.Tensor:
    while True:
        pass


def hangs_with_the_gil_held(*arguments: torch.Tensor) -> torch.Tensor:
    """Exponential backtracking in C code: neither Python code nor signal handlers run."""
    re.match(r"(a+)+$", "a" * 60 + "b")
    raise AssertionError("not reached in a lifetime")


def stops_itself(*arguments: torch.Tensor) -> torch.Tensor:
    os.kill(os.getpid(), signal.SIGSTOP)
    return right.fused_experts(*arguments)


def loses_the_device(*arguments: torch.Tensor) -> torch.Tensor:
    """As after an illegal access on a GPU: a right answer, then nothing works any more."""

    def fail(device: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    loaded_subject.synchronize = fail
    return right.fused_experts(*arguments)


def exits(*arguments: torch.Tensor) -> torch.Tensor:
    print("giving up", file=sys.stderr)
    os._exit(3)


def leaves_with_sys_exit(*arguments: torch.Tensor) -> torch.Tensor:
    sys.exit("no GPU left")


def exits_with_a_child_alive(*arguments: torch.Tensor) -> torch.Tensor:
    """The child inherits every file descriptor, the pipes to the suite among them."""
    if os.fork() == 0:
        signal.pause()
    os._exit(4)


def segfaults(*arguments: torch.Tensor) -> torch.Tensor:
    ctypes.string_at(0)
    raise AssertionError("not reached")


def aborts(*arguments: torch.Tensor) -> torch.Tensor:
    os.abort()


BEHAVIOURS: tuple[Callable[..., Any], ...] = (
    right.fused_experts,
    raises,
    raises_what_cannot_be_printed,
    returns_wrong_shape,
    returns_wrong_dtype,
    returns_wrong_device,
    returns_nan,
    returns_none,
    writes_past_its_input,
    writes_its_input,
    prints_garbage,
    closes_its_standard_streams,
    hangs,
    hangs_with_the_gil_held,
    stops_itself,
    exits,
    leaves_with_sys_exit,
    exits_with_a_child_alive,
    segfaults,
    aborts,
    loses_the_device,
)
"""The behaviour on T tokens; with more tokens than entries, right."""


def fused_experts(*arguments: torch.Tensor) -> Any:
    """Misbehave the way that belongs to this number of tokens."""
    num_tokens = arguments[0].shape[0]
    if num_tokens < len(BEHAVIOURS):
        return BEHAVIOURS[num_tokens](*arguments)
    return right.fused_experts(*arguments)


def hangs_and_leaves_a_trace(*arguments: torch.Tensor) -> torch.Tensor:
    """Hang on 1 token, with a child process; their process ids go to the file ``$PIDS``."""
    if arguments[0].shape[0] == 1:
        child = subprocess.Popen(["sleep", "1000"])
        Path(os.environ["PIDS"]).write_text(f"{os.getpid()} {child.pid}")
        hangs()
    return right.fused_experts(*arguments)
