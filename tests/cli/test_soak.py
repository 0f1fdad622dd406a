"""Fifty streams through the daemon's process: flat memory, no descriptor left open, the same verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.service.small import FEATURES, N_WINDOW, faulty_events, healthy_events
from tests.studies.soak import Load, Soak, report, soak

SLACK_MEGABYTES, SLACK_DESCRIPTORS = 20.0, 8
"""What allocators, connections of the moment and files of the store may take more."""

WAL_MEGABYTES = 4.2
"""SQLite's log goes up to 1000 pages before it begins anew; after few windows it is shorter."""


def middle(seen: Soak, quarter: int, name: str) -> float:
    """Median of a figure over a quarter of the looks."""
    return float(np.median(seen.quarter(quarter, name)))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [5.0, pytest.param(1200.0, marks=pytest.mark.long)])
def test_the_daemon_is_the_same_at_the_end_as_at_the_start(
    tmp_path: Path, bundle: Path, seconds: float
) -> None:
    x = [*(healthy_events(N_WINDOW, seed) for seed in range(9)), faulty_events(N_WINDOW, 9)]
    load = Load(bundle, FEATURES, x, 50, 30.0, seconds, max(0.5, seconds / 100), max(3.0, seconds / 20))
    seen = soak(tmp_path, load)
    print(report(seen))  # noqa: T201
    assert seen.n_lost == 0
    assert len(seen.judged) == seen.n_sent == 30 * seconds
    assert seen.n_reloads >= 1
    assert set(seen.results) == set(range(len(x)))
    for pairs in seen.results.values():
        ((t, p),) = pairs
        assert t is not None
        assert p is not None
    for name, slack in [
        ("daemon_megabytes", SLACK_MEGABYTES),
        ("workers_megabytes", SLACK_MEGABYTES),
        ("n_descriptors", SLACK_DESCRIPTORS),
        ("n_threads", SLACK_DESCRIPTORS),
        ("store_megabytes", WAL_MEGABYTES + 0.5 * middle(seen, 1, "store_megabytes")),
        ("delay_median", 1.0 + middle(seen, 1, "delay_median")),
    ]:
        early, late = middle(seen, 1, name), middle(seen, 3, name)
        assert late <= early + slack, f"{name}: {early:.4g}, later {late:.4g}"
