"""Which tests of the scripts can run here."""

from __future__ import annotations

import sys

# The AMD decoders need Python 3.11.
collect_ignore = ["test_instruction_coverage.py"] if sys.version_info < (3, 11) else []
