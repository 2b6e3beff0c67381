"""An implementation that notes on which GPU it ran, and refuses to run where another process does.

``$GPU_NOTES`` is a folder. The lock is its own, apart from that of the suite. As many processes may
be on a GPU as ``$PROCESSES_PER_GPU`` says. On some numbers of tokens it misbehaves.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
import time
from pathlib import Path

import torch

from moeproof import loaded_subject

sys.path.insert(0, str(Path(__file__).parent))
import right

NOTES = Path(os.environ["GPU_NOTES"])
CRASHES, HANGS, LOSES_THE_DEVICE = 1, 2, 3


def _visible() -> str:
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if variable in os.environ:
            return os.environ[variable]
    return "all"


def _claim(gpu: str) -> int:
    for place in range(int(os.environ.get("PROCESSES_PER_GPU", "1"))):
        file = os.open(NOTES / f"{gpu}.{place}.claim", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            return place
    raise RuntimeError(f"GPU {gpu} is in use by another process")


GPU = _visible()
PLACE = _claim(GPU)


def fused_experts(*arguments: torch.Tensor) -> torch.Tensor:
    """Right, but for the numbers of tokens named above."""
    num_tokens = arguments[0].shape[0]
    (NOTES / f"T{num_tokens}").write_text(f"{GPU} {PLACE} {os.getpid()}")
    if num_tokens == CRASHES:
        ctypes.string_at(0)
    if num_tokens == HANGS:
        time.sleep(1000)
    if num_tokens == LOSES_THE_DEVICE:
        loaded_subject.synchronize = _fail
    # Long enough for the other workers to have their turn.
    time.sleep(0.3)
    return right.fused_experts(*arguments)


def _fail(device: object) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")
