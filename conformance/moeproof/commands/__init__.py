"""The commands of the command line, one a module.

Each module has ``add_parser(commands)``, which adds its parser and says what carries it out: a
function from the parsed arguments to the exit code.
"""

from __future__ import annotations

from moeproof.commands import certify, compare, faults, fuzz, listings, merge, report, run, targets

COMMANDS = (run, fuzz, merge, compare, certify, report, faults, targets, listings)
