from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import ks_2samp, kstest

from dqm.events import EventBatch, Origin
from dqm_collectors.chamber.conditions import Conditions, Variation, vary
from dqm_collectors.chamber.gauges import Gauge, read_gauges
from dqm_collectors.chamber.geometry import DRIFT_VELOCITY_MM_PER_NS
from dqm_collectors.chamber.hits import RawHits, write_tdc
from dqm_collectors.simulate import SimulateCollector, simulate_features
from dqm_collectors.tdc import TdcCollector


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


def test_set_points_are_told_and_betray_no_fault() -> None:
    faults = [{"chamber": 1, "knob": "strip_voltage_v", "value": -900, "start": 1}]
    batches = run(seconds=3, faults=faults, conditions={"threshold_mv": 80})
    told = [batch.conditions for batch in batches]
    assert told == [{"strip_voltage_set_v": -1200.0, "threshold_set_mv": 80.0}] * len(batches)


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


WEATHER = {"knob": "drift_velocity_mm_per_ns", "amplitude": 0.2, "period_seconds": 40.0}
GAUGE = {"knob": "drift_velocity_mm_per_ns", "sigma": 1e-3, "every_seconds": 5.0}


def test_measurements_leave_the_events_as_they_are() -> None:
    plain, measured = run(seconds=10), run(seconds=10, measurements={"velocity": GAUGE})
    for one, other in zip(plain, measured, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        assert (one.auxiliary, len(other.auxiliary)) == ((), 1)


def test_a_gauge_is_read_at_its_times_once_for_all_chambers() -> None:
    batches = run(
        seconds=20, start=1000.0, measurements={"velocity": GAUGE, "rate": GAUGE | {"knob": "rate_hz"}}
    )
    assert {m.name for b in batches for m in b.auxiliary} == {"velocity", "rate"}
    for batch in batches:
        assert {m.time for m in batch.auxiliary} == {1000 + (batch.start - 1000) // 5 * 5}
    assert len({m for b in batches for m in b.auxiliary}) == 2 * 4
    alone = run(seconds=20, start=1000.0, measurements={"velocity": GAUGE}, chambers=(2,))
    assert alone[-1].auxiliary == batches[-1].auxiliary[:1]


def test_readings_scatter_by_their_error_around_the_truth() -> None:
    gauges, weather = {"velocity": Gauge(**GAUGE | {"every_seconds": 1.0})}, [Variation(**WEATHER)]
    readings = [
        m
        for k in range(2000)
        for m in read_gauges(gauges, Conditions(), weather, k + 0.5, start=1000.0, seed=1)
    ]
    assert [m.time for m in readings] == [1000.0 + k for k in range(2000)]
    assert {(m.name, m.sigma) for m in readings} == {("velocity", 1e-3)}
    truth = np.log1p(0.2 * np.sin(2 * np.pi * np.arange(2000) / 40))
    pulls = (np.array([m.value for m in readings]) - truth) / 1e-3
    assert kstest(pulls, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(pulls[:-1], pulls[1:])[0, 1]) < 4 / np.sqrt(len(pulls))


def test_slow_control_does_not_see_a_fault() -> None:
    fault = {"chamber": 0, "knob": "drift_velocity_mm_per_ns", "value": 0.04, "start": 5}
    options = {"seconds": 10, "chambers": (0,), "measurements": {"velocity": GAUGE}}
    faulty, healthy = run(**options, faults=[fault]), run(**options)
    assert [b.auxiliary for b in faulty] == [b.auxiliary for b in healthy]
    assert not np.array_equal(faulty[-1].x, healthy[-1].x)


def test_a_variation_moves_the_events() -> None:
    def first_times(batches: list[EventBatch], low: float, high: float) -> np.ndarray:
        return np.concatenate([b.x[:, 0] for b in batches if low <= b.start % 40 < high])

    batches = run(seconds=80, chambers=(0,), rate_hz=200, variations=[WEATHER])
    fast, slow = first_times(batches, 5, 15), first_times(batches, 25, 35)
    assert ks_2samp(fast, slow).pvalue < 1e-9
    for found, factor in ((fast, 1.18), (slow, 0.82)):  # means of these quarters of a turn
        constant = {"drift_velocity_mm_per_ns": factor * DRIFT_VELOCITY_MM_PER_NS}
        same = run(seconds=20, chambers=(0,), rate_hz=200, conditions=constant, seed=2)
        assert ks_2samp(found, first_times(same, 0, 40)).pvalue > 1e-3


def test_the_rate_may_vary_and_several_variations_multiply() -> None:
    wave = {"knob": "rate_hz", "amplitude": 0.9, "period_seconds": 20.0, "phase": 0.25}
    batches = run(seconds=20, chambers=(0,), rate_hz=200, variations=[wave])
    n = [len(b.x) for b in batches]
    assert sum(n[:3]) > 5 * sum(n[9:12])
    base = Conditions()
    twice = vary(base, [Variation(**wave), Variation(**wave | {"amplitude": 0.5})], 0.0)
    assert twice.rate_hz == pytest.approx(base.rate_hz * 1.9 * 1.5)
    assert vary(base, [], 0.0) is base


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"variations": [WEATHER | {"knob": "velocity"}]},
            "no knob 'velocity' with a single number; known are rate",
        ),
        ({"variations": [WEATHER | {"knob": "t0_ns"}]}, "no knob 't0_ns' with a single number"),
        ({"variations": [WEATHER | {"amplitude": 1.0}]}, "less than 1"),
        ({"variations": [WEATHER | {"amplitude": 0.9}]}, "less than or equal to 0.1"),
        ({"variations": [WEATHER | {"amplitude": 0.5}] * 2}, "less than or equal to 0.1"),
        ({"measurements": {"v": GAUGE | {"sigma": 0}}}, "greater than 0"),
        ({"measurements": {"drift velocity": GAUGE}}, "should match pattern"),
        (
            {
                "measurements": {"noise": GAUGE | {"knob": "noise_rate_hz"}},
                "conditions": {"noise_rate_hz": 0},
            },
            "measurements.noise: noise_rate_hz is 0, which has no logarithm",
        ),
    ],
)
def test_slow_control_that_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SimulateCollector.Options(**options)
