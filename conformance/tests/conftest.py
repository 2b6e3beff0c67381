"""Triton kernels under test run on the CPU here, under Triton's interpreter."""

from __future__ import annotations

import os

from moeproof.devices import prepare_environment

# Triton reads this once, when it is imported.
prepare_environment("cpu", os.environ)
