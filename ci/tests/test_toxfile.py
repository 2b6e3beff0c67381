"""``toxfile.py``, in a tox run of its own on a pretended container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOXFILE = Path(__file__).resolve().parents[2] / "toxfile.py"
TOX_INI = """
[tox]
no_package = true

[testenv]
runner = virtualenv
deps = torch
commands = python -c "import torch; print('torch is', torch.__file__)"

[testenv:container]
host_packages =
    torch
    a_package_that_the_host_does_not_have

[testenv:plain]
"""


@pytest.fixture
def run_tox(tmp_path):
    """Run tox on an environment, offline; tox's own Python holds a torch that is a mere marker."""
    host = tmp_path / "host"
    (host / "torch").mkdir(parents=True)
    (host / "torch" / "__init__.py").touch()
    metadata = host / "torch-9.9.9.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9\n")
    (tmp_path / "tox.ini").write_text(TOX_INI)
    shutil.copy(TOXFILE, tmp_path)

    def run(environment: str) -> subprocess.CompletedProcess[str]:
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TOX", "PIP_"))
        }
        environ |= {"PYTHONPATH": str(host), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
        command = [sys.executable, "-m", "tox", "run", "-e", environment]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


def test_host_packages_are_used_and_not_installed(run_tox, tmp_path):
    result = run_tox("container")
    assert result.returncode == 0, result.stdout
    assert f"torch is {tmp_path / 'host' / 'torch' / '__init__.py'}" in result.stdout


def test_other_environments_do_not_see_the_host(run_tox):
    result = run_tox("plain")
    assert result.returncode != 0
    assert "No matching distribution found for torch" in result.stdout
