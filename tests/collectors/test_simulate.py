from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from collectors.chamber.conditions import Conditions
from collectors.chamber.hits import RawHits, write_tdc
from collectors.simulate import SimulateCollector, simulate_features
from collectors.tdc import TdcCollector
from dqm.events import EventBatch, Origin


def by_chamber(batches: list[EventBatch]) -> dict[str, list[EventBatch]]:
    chambers = defaultdict(list)
    for batch in batches:
        chambers[batch.chamber].append(batch)
    return chambers


def run(**options) -> list[EventBatch]:
    return list(SimulateCollector(SimulateCollector.Options(**options)))


def test_a_run_is_complete_and_repeatable() -> None:
    first, second = (run(seconds=20.5, seed=3, start=1000.0) for _ in range(2))
    assert SimulateCollector.origin is Origin.SIMULATED
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
    for batches in by_chamber(first).values():
        assert batches[0].start == 1000
        assert batches[-1].end == 1020.5
        assert [b.end for b in batches[:-1]] == [b.start for b in batches[1:]]
        assert all(((b.times >= b.start) & (b.times < b.end)).all() for b in batches)
        assert sum(len(b.x) for b in batches) == pytest.approx(60 * 20.5 * 0.69, rel=0.12)


def test_chambers_do_not_depend_on_each_other() -> None:
    alone = by_chamber(run(seconds=5, chambers=(2,)))["2"]
    together = by_chamber(run(seconds=5))["2"]
    np.testing.assert_allclose(
        np.concatenate([b.x for b in alone]), np.concatenate([b.x for b in together]), rtol=1e-9, atol=1e-9
    )


def test_a_fault_is_seen_while_it_lasts() -> None:
    faults = [{"chamber": 1, "knob": "threshold_mv", "value": 50, "start": 20.5, "stop": 40}]
    batches = by_chamber(run(seconds=60, rate_hz=200, faults=faults))

    def hits(chamber: str, low: float, high: float) -> np.ndarray:
        return np.concatenate([b.x[:, 5] for b in batches[chamber] if low <= b.start < high])

    healthy = hits("1", 0, 20)
    for other in (hits("1", 41, 60), hits("0", 21, 40)):
        assert ks_2samp(healthy, other).pvalue > 1e-3
    faulty = hits("1", 21, 40)
    assert ks_2samp(healthy, faulty).pvalue < 1e-9


def test_real_time_is_kept(fake_time) -> None:
    options = SimulateCollector.Options(seconds=4, speed=1.0, start="now", chambers=(0,))
    collector = SimulateCollector(options, clock=fake_time.clock, sleep=fake_time.sleep, now=lambda: 5000.0)
    seen = [(fake_time.now, batch.end) for batch in collector]
    assert seen == [(101, 5001), (102, 5002), (103, 5003), (104, 5004)]


def test_written_hits_give_the_same_segments(tmp_path: Path) -> None:
    path = tmp_path / "run.csv.gz"
    simulate = SimulateCollector(SimulateCollector.Options(seconds=10))
    write_tdc(RawHits.concatenate(list(simulate.raw_hits())), path)
    read = by_chamber(list(TdcCollector(TdcCollector.Options(inputs=(path,)))))
    for name, batches in by_chamber(list(simulate)).items():
        expected = np.concatenate([b.x for b in batches])
        np.testing.assert_allclose(np.concatenate([b.x for b in read[name]]), expected, atol=1e-6)


def test_features_for_studies_are_those_of_the_collector() -> None:
    study = simulate_features(Conditions(), 3000, np.random.default_rng(1))
    assert study.x.shape == (3000, 6)
    online = np.concatenate([b.x for b in run(seconds=100, chambers=(0,))])
    for column in range(5):
        assert ks_2samp(study.x[:, column], online[:, column]).pvalue > 1e-3


def test_healthy_is_stationary() -> None:
    x = np.concatenate([b.x for b in run(seconds=400, chambers=(0,), rate_hz=100, seed=2)])
    half = len(x) // 2
    for column in range(5):
        assert ks_2samp(x[:half, column], x[half:, column]).pvalue > 1e-3
