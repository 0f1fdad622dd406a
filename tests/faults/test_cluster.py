"""A daemon whose windows are tested by a Dask cluster, of which parts are killed and come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqm.reference import Bundle
from tests.cli.dask_cluster import DaskCluster
from tests.waiting import wait_until

from .conftest import Open
from .site import STREAMS

HEALTHY, FAULTY = STREAMS
N_ROUNDS = 6


@pytest.mark.long
def test_nothing_is_lost_or_judged_twice_while_a_cluster_dies_and_comes_back(
    open_site: Open, bundle: Bundle, tmp_path: Path
) -> None:
    chance = np.random.default_rng(5)
    with DaskCluster(tmp_path) as dask:
        for _ in range(2):
            dask.add_worker(n_threads=1)
        site = open_site(f'workers = 1\nscheduler = "{dask.address}"', bundle=bundle.path)
        site.start()
        site.collect(healthy=[HEALTHY], faulty=[FAULTY], rate_hz=8.0, section="buffer_windows = 5000")

        def n_threads() -> float:
            return site.metrics().get(("dqm_cluster_threads",), 0.0)

        for n in range(N_ROUNDS):
            wait_until(lambda: n_threads() >= 1, "the cluster", 120.0)
            wanted = site.n_logged("judged") + chance.integers(5, 20)
            wait_until(lambda wanted=wanted: site.n_logged("judged") >= wanted, "windows")  # type: ignore[misc]
            if n % 3 < 2:
                killed = dask.workers.pop(0)
                killed.kill()
                killed.wait()
            else:
                dask.scheduler.kill()
                dask.scheduler.wait()
                wait_until(lambda: n_threads() == 0, "the loss of the scheduler", 60.0)
                wanted = site.n_logged("judged") + 10  # by the daemon's own worker
                wait_until(lambda wanted=wanted: site.n_logged("judged") >= wanted, "windows")  # type: ignore[misc]
                dask.start_scheduler()
            dask.add_worker(n_threads=1)
        ended = site.end_collector()
        site.stop()
    assert (ended["lost"], ended["spooled"], ended["refused"]) == (0, 0, 0)
    assert sum(site.check_delivery().values()) > 10 * N_ROUNDS
    assert not [verdict.reason for verdict in site.verdicts() if verdict.result.p is None]
