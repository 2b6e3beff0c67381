"""One writer a folder, whatever becomes of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moeproof.report.folder_lock import LOCK_FILE, LockError, folder_lock

HOLDS_THE_LOCK = """
import sys, time
from pathlib import Path
from moeproof.report.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(1000)
"""


def test_the_second_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        with pytest.raises(LockError, match="another run"), folder_lock(tmp_path):
            pytest.fail("two at a time")
        assert (tmp_path / LOCK_FILE).exists()
        with pytest.raises(LockError), folder_lock(tmp_path):
            pytest.fail("two at a time")
    assert list(tmp_path.iterdir()) == []
    with folder_lock(tmp_path):
        pass


def test_a_killed_holder_holds_it_no_more(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS_THE_LOCK, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockError), folder_lock(tmp_path):
            pytest.fail("two at a time")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (tmp_path / LOCK_FILE).exists()
    with folder_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="cannot be written"), folder_lock(tmp_path / "no"):
        pytest.fail("locked nothing")
