"""Triton kernels under test run on the CPU here, under Triton's interpreter."""

from __future__ import annotations

import os
import sys

# Read once, when triton is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

# The AMD decoders need Python 3.11, and so does the extra that brings them.
collect_ignore = ["amd", "faults/test_emulated_faults.py"] if sys.version_info < (3, 11) else []
