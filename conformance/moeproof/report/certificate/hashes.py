"""Hashes of a package: a chain over the report's lines, and a digest for each file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

_START = "moeproof report"


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def chain_of(report: bytes) -> list[str]:
    """For each line the sha256 of the hash before, in hexadecimal, and the line.

    A line that is altered, removed, added or moved changes its own hash and all that follow.
    """
    return list(_links(report))


def _links(report: bytes) -> Iterator[str]:
    link = sha256(_START.encode())
    for line in report.splitlines(keepends=True):
        link = sha256(link.encode() + line)
        yield link


def first_break(report: bytes, chain: list[str]) -> int | None:
    """The number of the first line, from 1, at which a report departs from its chain."""
    links = chain_of(report)
    for number, (link, expected) in enumerate(zip(links, chain, strict=False), start=1):
        if link != expected:
            return number
    return None if len(links) == len(chain) else min(len(links), len(chain)) + 1
