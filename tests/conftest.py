"""What every test has: one core, the same examples, and files that all processes of a run share.

``make test`` runs whole files of tests in parallel processes (pytest-xdist), the longest first.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings

if TYPE_CHECKING:
    from dqm.reference import StoredBundle
    from tests.world import World

Once = Callable[[str, Callable[[Path], object]], Path]

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # read when torch is loaded: processes side by side share the cores

settings.register_profile("dqm", deadline=None, derandomize=True)  # same examples everywhere, however slow
settings.load_profile("dqm")

LONGEST_FIRST = (
    "faults/test_cluster.py",
    "browser/test_page.py",
    "browser/test_groups.py",
    "browser/test_wall.py",
    "test_front_door.py",
    "faults/test_kills.py",
    "cli/test_stopping.py",
    "cli/test_failing_well.py",
    "web/auth/test_roles.py",
    "fuzz/test_bombs.py",
    "service/collector/test_files.py",
    "cli/test_secrets.py",
    "service/doctor/test_examine.py",
    "service/monitor/test_worker_pool.py",
    "web/auth/test_oidc.py",
    "service/monitor/test_daemon.py",
    "web/test_api.py",
    "web/test_edge_values.py",
    "nplm/test_accuracy.py",
    "cli/test_init.py",
    "cli/test_plugins.py",
    "service/collector/test_kafka.py",
    "faults/test_disk.py",
    "browser/test_day.py",
    "browser/test_sign_in.py",
    "faults/test_peers.py",
    "cli/test_soak.py",
    "cli/test_runs.py",
    "service/offline/test_comparison.py",
    "faults/test_network.py",
    "cli/test_notify.py",
    "cli/test_cluster.py",
    "reference/test_splits.py",
    "reference/test_window_range.py",
    "faults/test_last_end.py",
    "service/monitor/test_references.py",
    "cli/test_chain.py",
    "reference/test_nuisances.py",
    "reference/test_toys.py",
    "nplm/test_cells.py",
    "cli/test_online.py",
    "cli/test_notice.py",
    "faults/test_load.py",
    "service/monitor/test_cluster_workers.py",
    "service/monitor/test_rolling.py",
    "cli/test_certify.py",
    "cli/test_certificate.py",
    "cli/test_hunt.py",
    "cli/test_kept.py",
    "test_packaging.py",
    "web/auth/test_authenticator.py",
    "web/test_pages.py",
    "nplm/test_kernel_test.py",
    "nplm/test_taylor.py",
    "nplm/test_neural.py",
    "store/test_backup.py",
    "store/test_verdict_store.py",
    "cli/test_histograms.py",
    "cli/test_offline.py",
)
"""Files that take more than five seconds in either suite, roughly by their time (``ARGS=--durations=0``)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no process works alone at the end."""
    places = {Path(__file__).parent / name: n for n, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Let the garbage collector leave out all that was loaded; looking through it takes long, and often."""
    gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: tests that wait leave theirs to others."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a folder of a given name once for all processes of this run; no test may write to it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each process has its folder in that of the run
    shared = root / "shared"
    shared.mkdir(exist_ok=True)

    def make(name: str, write: Callable[[Path], object]) -> Path:
        made = shared / name
        with FileLock(shared / f"{name}.lock", timeout=600.0):
            if not made.exists():
                unfinished = Path(tempfile.mkdtemp(dir=shared)) / name
                write(unfinished)
                unfinished.rename(made)
        return made

    return make


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], Path]:
    """Path of a program; without it the test is skipped, or fails where ``DQM_REQUIRE_ALL=1``."""

    def find(name: str) -> Path:
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if found is None and os.environ.get("DQM_REQUIRE_ALL") == "1":
            pytest.fail(f"{name} is not installed, and DQM_REQUIRE_ALL=1 forbids to skip")
        if found is None:
            pytest.skip(f"{name} is not installed")
        return Path(found)

    return find


@pytest.fixture(scope="session")
def bundle(once: Once) -> StoredBundle:
    """A small bundle that many tests read; none of them may write to it."""
    from dqm.reference import open_bundle  # loads torch
    from tests.service.small import small_bundle

    return open_bundle(once("small.dqmref", small_bundle))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two stations of two chambers each; nothing has happened yet."""
    from tests.world import make_world  # loads torch

    made = make_world(
        tmp_path / "x.sqlite",
        {"muon/station-1": ["chamber-1", "chamber-2"], "muon/station-2": ["chamber-3", "chamber-4"]},
    )
    yield made
    made.store.close()
