"""A daemon whose windows are tested by a Dask cluster, of which parts fail, are killed and come back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from dqm.events import FloatArray
from dqm.reference import Bundle
from tests.cli.dask_cluster import DaskCluster, another_service
from tests.waiting import wait_until

from .conftest import Open
from .site import STREAMS, Site

HEALTHY, FAULTY = STREAMS
N_ROUNDS = 6

LONGEST_DELAY_SECONDS = 20.0
"""A third of `longest_test_seconds`, after which a test is given up."""

OF_ANOTHER_VERSION = """
import dqm.reference.cluster as cluster
known = cluster.version

def dask_setup(worker):
    cluster.version = lambda name: "0.1.0" if name == "dqm" else known(name)
"""

GIVES_GARBAGE = """
from dataclasses import replace
from itertools import count
from dqm.reference.cluster import WorkerTask
evaluate, numbers = WorkerTask.work, count()

def work(self, item):
    report = evaluate(self, item)
    garbage = [replace(report, result="nonsense"), None, b"x" * 1000, lambda: 0,
               replace(report, result=replace(report.result, p=7.0))]
    return [report, *garbage][next(numbers) % 6]

def dask_setup(worker):
    WorkerTask.work = work
"""

CANNOT_BE_READ = """
from dqm.reference.cluster import WorkerTask

class Unreadable:
    def __reduce__(self):
        return (int, ("nonsense",))

def dask_setup(worker):
    WorkerTask.work = lambda self, item: Unreadable()
"""

Start = Callable[..., Site]


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[DaskCluster]:
    folder = tmp_path / "dask"
    folder.mkdir()
    with DaskCluster(folder) as dask:
        dask.add_worker(n_threads=1)
        yield dask


@pytest.fixture
def start(open_site: Open, bundle: Bundle, dask: DaskCluster) -> Start:
    """Start a daemon and a collector when the cluster is complete, and wait until windows are judged."""

    def start(n_workers: int = 2) -> Site:
        site = open_site(f'workers = 1\nscheduler = "{dask.address}"', bundle=bundle.path)
        site.start()
        wait_until(lambda: n_threads(site) == n_workers, "the cluster", 120.0)
        site.collect(healthy=[HEALTHY], faulty=[FAULTY], rate_hz=6.0, section="buffer_windows = 5000")
        wait_for_windows(site, 20)
        return site

    return start


def n_threads(site: Site) -> float:
    return site.metrics().get(("dqm_cluster_threads",), 0.0)


def wait_for_windows(site: Site, n: int) -> None:
    wanted = site.n_logged("judged") + n
    wait_until(lambda: site.n_logged("judged") >= wanted, f"{n} windows")


def finish(site: Site) -> FloatArray:
    """End all, check that each window was judged once and has its p, and give the delays of all, s."""
    ended = site.end_collector()
    site.stop()
    assert (ended["lost"], ended["spooled"], ended["refused"]) == (0, 0, 0)
    site.check_delivery()
    verdicts = site.verdicts()
    assert not [verdict.reason for verdict in verdicts if verdict.result.p is None]
    assert not site.events("an exception that nobody caught")
    return np.array([verdict.judged_at - float(verdict.window.conditions["made"]) for verdict in verdicts])


@pytest.mark.slow
def test_a_worker_of_a_cluster_that_is_killed_loses_nothing(start: Start, dask: DaskCluster) -> None:
    dask.add_worker(n_threads=1)
    site = start()
    dask.workers[0].kill()
    wait_until(lambda: n_threads(site) == 1, "the loss of a worker")
    wait_for_windows(site, 40)
    dask.add_worker(n_threads=1)
    wait_until(lambda: n_threads(site) == 2, "another worker")
    wait_for_windows(site, 40)
    assert finish(site).max() < LONGEST_DELAY_SECONDS


@pytest.mark.slow
def test_a_worker_of_a_cluster_that_stands_still_delays_few_windows(start: Start, dask: DaskCluster) -> None:
    dask.add_worker(n_threads=1)
    site = start()
    dask.workers[0].send_signal(signal.SIGSTOP)
    wait_for_windows(site, 100)
    wait_until(lambda: n_threads(site) == 1, "that it is missed")
    dask.workers[0].send_signal(signal.SIGCONT)
    wait_until(lambda: n_threads(site) == 2, "its return")
    wait_for_windows(site, 40)
    delays = finish(site)
    assert delays.max() < LONGEST_DELAY_SECONDS
    assert not site.events("the cluster is away: windows are evaluated here")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preload", "why"),
    [
        (OF_ANOTHER_VERSION, "has dqm 0.1.0, not "),
        (GIVES_GARBAGE, "gave "),
        (CANNOT_BE_READ, "ValueError: invalid literal"),
    ],
    ids=["version", "garbage", "unreadable"],
)
def test_a_worker_of_a_cluster_that_fails_is_left_out_and_the_other_goes_on(
    start: Start, dask: DaskCluster, preload: str, why: str
) -> None:
    dask.add_worker(n_threads=1, preload=preload)
    site = start()
    wait_until(lambda: n_threads(site) == 1, "that it is left out")
    wait_for_windows(site, 100)
    assert n_threads(site) == 1
    assert finish(site).max() < LONGEST_DELAY_SECONDS
    left_out = site.events("a worker of the cluster is left out: its windows are evaluated elsewhere")
    assert len({line["worker"] for line in left_out}) == 1
    assert all(why in line["why"] and len(line["why"]) <= 300 for line in left_out), left_out
    assert not site.events("the cluster is away: windows are evaluated here")


@pytest.mark.slow
def test_a_scheduler_that_goes_is_tried_again_whatever_answers_in_its_place(
    start: Start, dask: DaskCluster
) -> None:
    site = start(1)
    dask.scheduler.kill()
    dask.scheduler.wait()
    wait_until(lambda: n_threads(site) == 0, "the loss of the scheduler")
    with another_service(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", port=urlsplit(dask.address).port or 0):
        wait_until(lambda: "what answers is no Dask scheduler" in site.log.read_text(), "an attempt")
        wait_for_windows(site, 40)
    dask.start_scheduler()
    dask.add_worker(n_threads=1)
    wait_until(lambda: n_threads(site) == 1, "the cluster")
    wait_for_windows(site, 40)
    assert finish(site).max() < LONGEST_DELAY_SECONDS


@pytest.mark.long
def test_nothing_is_lost_or_judged_twice_while_a_cluster_dies_and_comes_back(
    start: Start, dask: DaskCluster
) -> None:
    chance = np.random.default_rng(5)
    dask.add_worker(n_threads=1)
    site = start()
    for n in range(N_ROUNDS):
        wait_until(lambda: n_threads(site) >= 1, "the cluster", 120.0)
        wait_for_windows(site, int(chance.integers(5, 20)))
        if n % 3 < 2:
            killed = dask.workers.pop(0)
            killed.kill()
            killed.wait()
        else:
            dask.scheduler.kill()
            dask.scheduler.wait()
            wait_until(lambda: n_threads(site) == 0, "the loss of the scheduler", 60.0)
            wait_for_windows(site, 10)  # by the daemon's own worker
            dask.start_scheduler()
        dask.add_worker(n_threads=1)
    assert len(finish(site)) > 10 * N_ROUNDS
