"""Collectors killed at random moments: what they had taken arrives, whatever they were doing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.waiting import wait_until

from .forgetful import receiving

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 60.0


def start(folder: Path, address: str, pause_seconds: float, mode: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.stream.pouring", folder, address, str(pause_seconds), mode]
    return subprocess.Popen(command, cwd=ROOT)


@pytest.mark.parametrize("n_kills", [3, pytest.param(150, marks=pytest.mark.long)])
def test_nothing_is_lost_with_a_killed_collector(tmp_path: Path, n_kills: int) -> None:
    chance = np.random.default_rng(n_kills)
    address = f"ipc://{tmp_path}/w"
    with receiving(address, chance) as received:
        for _ in range(n_kills):
            size = taken_bytes(tmp_path)
            process = start(tmp_path, address, chance.choice([0.0, 0.001, 0.02]), "pour")
            wait_until(lambda size=size: taken_bytes(tmp_path) != size, "an event is taken", WAIT_SECONDS)
            time.sleep(chance.uniform(0.0, 0.5))  # the kill comes at any moment
            process.kill()
            assert process.wait() == -9
        assert start(tmp_path, address, 0.0, "drain").wait(10 * WAIT_SECONDS) == 0
    taken = [int(line) for line in (tmp_path / "taken").read_text().split()]
    assert len(taken) == len(set(taken)) > 10 * n_kills
    times = Counter(window.seq for window in received)
    lost = set(taken) - set(times)
    assert not lost
    assert set(times) == set(range(max(times) + 1)), "the numbers go on where the killed collector ended"
    assert all((window.x == np.full((3, 2), float(window.seq))).all() for window in received)
    told = [window.n_lost for window in received]
    assert not any(told)
    print(f"{n_kills} kills, {len(taken)} windows taken, {len(received)} arrivals, 0 lost")  # noqa: T201


def taken_bytes(folder: Path) -> int:
    file = folder / "taken"
    return file.stat().st_size if file.exists() else 0
