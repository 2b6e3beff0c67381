"""Triton kernels under test run on the CPU here, under Triton's interpreter."""

from __future__ import annotations

import os

# Read once, when triton is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")
