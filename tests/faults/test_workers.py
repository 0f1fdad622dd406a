"""Workers of a running daemon that hang, are killed or run out of memory."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from dqm.stream import Sender
from tests.service.small import healthy_events, window_of
from tests.waiting import wait_until

from .site import Site, workers_of

pytestmark = pytest.mark.slow  # tests/service/monitor/test_worker_pool.py has the same without a daemon
WAIT_SECONDS = 60.0


def evaluate(site: Site, sender: Sender, run: int, *seqs: int) -> list[str]:
    """Send windows, wait for their verdicts; gives quality and reason of each."""
    for seq in seqs:
        sender.send(window_of(run=run, seq=seq))
    assert sender.confirm(WAIT_SECONDS)
    return [f"{v.quality.value} {v.reason}".strip() for v in site.run_of(run) if v.window.seq in seqs]


def stop_worker(site: Site) -> int:
    """Let the worker hang."""
    wait_until(lambda: len(workers_of(site.pid)) == 1, "a worker")
    (worker,) = workers_of(site.pid)
    os.kill(worker, signal.SIGSTOP)
    return worker


def test_a_worker_that_hangs_is_replaced_and_its_window_is_judged_by_the_next(
    shared: Site, sender: Sender
) -> None:
    evaluate(shared, sender, 200, 0)
    worker = stop_worker(shared)
    assert evaluate(shared, sender, 200, 1, 2, 3) == ["Good", "Good", "Good"]
    assert worker not in workers_of(shared.pid)
    assert shared.events("worker lost")[-1]["why"] == "its test took longer than 3 s"


def test_a_window_whose_worker_is_killed_for_memory_is_judged_by_the_next(
    shared: Site, sender: Sender
) -> None:
    evaluate(shared, sender, 201, 0)
    worker = stop_worker(shared)  # so that it is sure to die with a window in its hands
    sender.send(window_of(run=201, seq=1))
    assert not sender.confirm(0.3)
    os.kill(worker, signal.SIGKILL)
    assert evaluate(shared, sender, 201, 1, 2) == ["Good", "Good"]
    assert shared.events("worker lost")[-1]["why"] == "its worker died by signal 9 (SIGKILL)"


def test_a_worker_without_memory_is_replaced(shared: Site, sender: Sender) -> None:
    evaluate(shared, sender, 202, 0)
    (worker,) = workers_of(shared.pid)
    pages = int(Path(f"/proc/{worker}/statm").read_text().split()[0])
    half = pages * resource.getpagesize() // 2
    resource.prlimit(worker, resource.RLIMIT_AS, (half, half))
    large = window_of(healthy_events(90_000, 1), run=202, seq=1)
    sender.send(large)
    assert sender.confirm(WAIT_SECONDS)
    assert worker not in workers_of(shared.pid)
    assert shared.events("worker lost")[-1]["why"] == "its worker died with exit code 1"
    assert evaluate(shared, sender, 202, 2, 3) == ["Good", "Good"]
