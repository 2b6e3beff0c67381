"""A command that cannot be carried out as given."""

from __future__ import annotations


class UsageError(ValueError):
    """What was asked for makes no sense; the message says what was given and what is allowed."""
