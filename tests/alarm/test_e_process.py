"""Evidence of a run: fair in healthy windows, however long; found where windows get worse; bounded."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from dqm.alarm import AlarmEngine, Cause, Rules, StreamFacts, derive_thresholds
from dqm.alarm.e_process import CAUTION, EProcess, HealthyZ
from dqm.alarm.stored_state import load_state
from dqm.alarm.stream_history import StreamHistory
from dqm.config import DaemonConfig
from dqm.events import FloatArray
from tests.alarm.engines import THRESHOLDS, engine, stream, verdict

LOG_LIMIT = math.log(20.0)
EXACT = HealthyZ()


def play(z: FloatArray, healthy: HealthyZ = EXACT) -> int | None:
    """Give the window in which it alarms."""
    evidence = EProcess()
    for number, value in enumerate(z):
        evidence.add(1, float(value), healthy=healthy, log_limit=LOG_LIMIT)
        if evidence.is_drifting:
            return number
    return None


def share_of_alarms(n_runs: int, n_windows: int, correlation: float = 0.0, known: float = 0.0) -> float:
    rng = np.random.default_rng(5)
    n_alarms = 0
    for _ in range(n_runs):
        z = rng.standard_normal(n_windows)
        for place in range(1, n_windows):
            z[place] = correlation * z[place - 1] + math.sqrt(1 - correlation**2) * z[place]
        n_alarms += play(z, HealthyZ(correlation=known)) is not None
    return n_alarms / n_runs


def test_healthy_runs_of_any_length_alarm_with_less_than_the_probability_that_is_stated() -> None:
    assert 0.005 < share_of_alarms(300, 500) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)


def test_correlated_windows_keep_it_where_it_is_known() -> None:
    assert share_of_alarms(150, 300, correlation=0.6) > 0.2
    assert share_of_alarms(150, 300, correlation=0.6, known=0.6) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 150)


@pytest.mark.parametrize(
    ("start", "shift", "latest"), [(0, 1.0, 25), (0, 2.8, 6), (400, 1.0, 45), (400, 0.5, 160)]
)
def test_a_shift_is_found_whenever_it_begins(start: int, shift: float, latest: int) -> None:
    rng = np.random.default_rng(6)
    delays = []
    for _ in range(40):
        z = rng.standard_normal(start + 400)
        z[start:] += shift
        found = play(z)
        if found is None or found >= start:
            delays.append(math.inf if found is None else found - start + 1)
    assert np.median(delays) < latest


def test_the_reference_is_not_trusted_more_than_it_deserves() -> None:
    z = np.full(400, 0.3)  # as if the reference were off by so much
    assert play(z) is not None
    assert play(z, HealthyZ(offset=0.3 / CAUTION)) is None


def test_wealth_begins_at_one_with_every_run_and_never_passes_the_limit() -> None:
    evidence = EProcess()
    assert evidence.log_wealth == pytest.approx(0.0)
    for z in (math.inf, -math.inf, 50.0):
        evidence.add(1, z, healthy=HealthyZ(), log_limit=LOG_LIMIT)
    for _ in range(1000):
        evidence.add(1, 9.0, healthy=HealthyZ(), log_limit=LOG_LIMIT)
    assert evidence.is_drifting
    assert LOG_LIMIT <= evidence.log_wealth < LOG_LIMIT + 0.1
    for _ in range(100):
        evidence.add(1, -0.2, healthy=HealthyZ(), log_limit=LOG_LIMIT)
    assert not evidence.is_drifting
    evidence.add(2, -1.0, healthy=HealthyZ(), log_limit=LOG_LIMIT)
    assert (evidence.run, evidence.windows) == (2, 1)
    assert evidence.log_wealth < 0.0


def by_run() -> AlarmEngine:
    thresholds = replace(THRESHOLDS, drift_test="run", drift_limit=math.log(100.0))
    return AlarmEngine(Rules((stream(),)), thresholds, 0.0)


def alarm_text(b: AlarmEngine) -> str:
    return next(one.text for one in b.alarms if one.cause is Cause.DRIFT and one.state == "Active")


def test_it_alarms_in_the_place_of_the_sum_and_outlives_the_daemon() -> None:
    b = by_run()
    for number in range(12):
        b.observe(verdict(0.05, number), float(number))
    assert "windows have deteriorated in run 1, none of them alone beyond p = 0.01: evidence " in alarm_text(
        b
    )
    assert alarm_text(b).endswith(" to 1, limit 100")
    assert b.drift_sums["s"] == pytest.approx(math.log(100.0), abs=0.1)
    stored = json.loads(json.dumps(b.dump("s"), allow_nan=False))
    assert load_state("s", stored, 20.0).history.run_evidence.is_drifting
    b.observe(verdict(0.8, 12), 12.0)
    assert alarm_text(b).endswith(" to 1, less than the limit 100 that it has reached; the alarm ends at 1")
    b.observe(verdict(0.5, 0, run=2), 20.0)
    assert b.drift_sums["s"] < 1.0, "another run begins anew"


def test_windows_after_losses_are_no_fair_bet_and_few_toys_count_less() -> None:
    b, c, history = by_run(), by_run(), StreamHistory()
    b.observe(verdict(0.005, 0, n_lost=3), 0.0)
    assert b.drift_sums["s"] == pytest.approx(0.0)
    judged = verdict(0.02)
    b.observe(judged, 1.0)
    c.observe(replace(judged, result=replace(judged.result, p_high=0.2)), 1.0)
    assert c.drift_sums["s"] < b.drift_sums["s"]
    assert history.drift_statistic(THRESHOLDS) == 0.0
    assert engine().drift_sums == {"s": 0.0}


def config(n_streams: int, **alarm: object) -> DaemonConfig:
    streams = [{"name": f"s{number}", "bundle": "none"} for number in range(n_streams)]
    return DaemonConfig.model_validate({"streams": streams, "alarm": {"drift_test": "run", **alarm}})


def test_the_budget_sets_the_probability_of_a_run() -> None:
    found = derive_thresholds(config(250), {"s0": StreamFacts(z_offset=0.1, wanders=True)})
    assert found.drift_limit == pytest.approx(math.log(500.0))
    assert found.false_alarms_per_shift[Cause.DRIFT] == pytest.approx(0.5)
    assert found.healthy_z["s0"] == HealthyZ(0.1, 0.7)
    assert found.healthy_z["s1"] == HealthyZ()
    more = derive_thresholds(config(250, runs_per_shift=4))
    assert more.drift_limit == pytest.approx(math.log(2000.0))
    assert derive_thresholds(config(1, drift_share=0.0)).drift_limit is None
    generous = derive_thresholds(config(1, false_alarms_per_shift=100))
    assert generous.drift_limit == pytest.approx(math.log(20.0)), "never above 5 %"
