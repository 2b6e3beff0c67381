"""Where the fixtures lie: inside an installed wheel, or at the root of a checkout."""

from __future__ import annotations

from pathlib import Path


def fixtures_directory() -> Path:
    """The folder that holds ``models/``, ``routing/``, ``vectors/`` and ``regressions/``.

    Raises ``FileNotFoundError`` where neither a wheel's nor a checkout's fixtures are found.
    """
    package = Path(__file__).resolve().parent
    installed = package / "fixtures"
    checkout = package.parents[1] / "fixtures"
    for candidate in (installed, checkout):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"moeproof's fixtures are missing: neither {installed} (a wheel) nor {checkout} "
        "(a checkout) is a folder; reinstall moeproof"
    )
