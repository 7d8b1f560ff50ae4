"""Acknowledged changes outlive a killed process and a full disk; see kill_live.py."""

import subprocess
import sys

import pytest

from tests.kill_live import run_once, write_index


def test_killed_writers_lose_nothing(tmp_path):
    path = str(tmp_path / "index")
    write_index(path)
    present = dict.fromkeys(range(20), 0)
    run_once(path, present, seed=1, num_changes=40)
    assert run_once(path, present, seed=2, num_changes=45, disk_bytes=40_000) > 0


@pytest.mark.long
def test_twenty_kills_and_five_full_disks(tmp_path):
    command = [sys.executable, "-m", "tests.kill_live", "--kills=20", "--full_disks=5"]
    assert '"lost": 0' in subprocess.run(command, capture_output=True, text=True, check=True).stdout
