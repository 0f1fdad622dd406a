"""Fifty streams that fail at once, through the daemon's process: every window gets its verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqm.events import Quality
from tests.benchmarks.daemon import RunningDaemon
from tests.service.small import FEATURES, N_WINDOW, healthy_events
from tests.studies.storm import Storm, row

N_STREAMS, N_SENT = 50, 100


@pytest.mark.slow
def test_none_of_the_windows_of_a_storm_is_given_up(tmp_path: Path, bundle: Path) -> None:
    healthy = [healthy_events(N_WINDOW, seed) for seed in range(5)]
    far = [1e3 * x for x in healthy]
    with RunningDaemon(tmp_path, [bundle] * N_STREAMS) as daemon:
        storm = Storm(daemon, FEATURES)
        phases = {name: storm.send(x, N_SENT, 50.0) for name, x in {"healthy": healthy, "far": far}.items()}
    for name, phase in phases.items():
        print(row(name, 50.0, phase))  # noqa: T201
        assert len(phase.verdicts) == len(phase.answered) == N_SENT
        assert phase.n_untested == 0
        assert (phase.judged > 0.0).all()
        assert np.max(phase.answered) >= np.max(phase.judged)
    assert {verdict.quality for verdict in phases["far"].verdicts} == {Quality.BAD}
