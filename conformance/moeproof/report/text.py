"""Text that any document can hold, whatever bytes an implementation printed."""

from __future__ import annotations

import re

# All that XML 1.0, section 2.2, has no character for, lone surrogates included, and the C1
# controls, which HTML reads as something else.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(text: str) -> str:
    r"""The text with what documents cannot hold written as in Python, such as ``\x00``."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)
