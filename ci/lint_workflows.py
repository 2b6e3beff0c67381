"""Lint all workflows, offline: their schema, their security, and with actionlint if it is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".github" / "workflows"


def main() -> int:
    """0 if no linter objects."""
    files = [str(path) for path in sorted(FOLDER.glob("*.y*ml"))]
    commands = [
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files],
        ["zizmor", "--offline", "--no-progress", *files],
    ]
    if shutil.which("actionlint"):
        commands.append(["actionlint", *files])
    else:
        print("actionlint is not installed: workflows are linted without it")
    codes = [subprocess.run(command, check=False).returncode for command in commands]
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())
