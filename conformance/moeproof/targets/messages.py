"""What a compiling process and its supervisor say to each other. All of it is picklable.

The supervisor sends a :class:`CompileRequest`. The process answers
:class:`~moeproof.worker_messages.Refused`, or :class:`~moeproof.targets.facts.Versions` and then,
for each call, :class:`CallBegins`, the :class:`~moeproof.targets.facts.KernelFacts` of each kernel
as soon as it is compiled and a :class:`~moeproof.targets.facts.FailedCall` if the call raised; at
the end :class:`AllCallsMade`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CompileRequest:
    """What is compiled.

    Attributes:
        implementation: a reference, as :func:`moeproof.implementation.load_implementation` takes.
        target: the architecture's name.
        dtypes: of the activations.
        timeout_seconds: the longest that one call may take.
        first_call: number of the call to begin with, from 1.
    """

    implementation: str
    target: str
    dtypes: tuple[str, ...]
    timeout_seconds: float
    first_call: int = 1


@dataclass(frozen=True)
class CallBegins:
    """The breadcrumb: should the process die now, it is this call that killed it.

    Attributes:
        number: from 1. total: of all calls.
        problem: its name, which tells the sizes.
    """

    number: int
    total: int
    problem: str


@dataclass(frozen=True)
class AllCallsMade:
    """Nothing follows."""
