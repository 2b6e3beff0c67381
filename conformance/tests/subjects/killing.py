"""A pytest plugin that kills the process of pytest-xdist that runs the test with no token."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


def pytest_runtest_call(item: pytest.Item) -> None:
    """Once, when the process's worker has judged and holds its GPU."""
    mark = Path(os.environ["GPU_NOTES"], "killed")
    if "-T0-" in item.nodeid and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
