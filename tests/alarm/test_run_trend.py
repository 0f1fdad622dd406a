"""Runs beside each other: which differ, and since when windows are worse."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from dqm.alarm import find_onset, follow_runs, summarise_run
from dqm.alarm.run_trend import RunStatistics
from dqm.events import ChannelSummary, Quality, TestResult, Verdict, WindowCut
from dqm.events.result import NuisanceResult, Profiled, RateResult
from tests.verdicts import make_verdict

CONDITIONS: dict[str, float | str] = {"hv": 1200.0, "crate": "b"}


def windows(run: int, z: np.ndarray, *, stream: str = "s", n_dead: int | None = None) -> list[Verdict]:
    channels = None if n_dead is None else ChannelSummary(64, n_dead, 0, 0)
    return [
        make_verdict(
            stream=stream, run=run, seq=seq, quality=Quality.BAD if value > 3 else Quality.GOOD, reason="",
            bundle="b", seconds=0.1, judged_at=0.0, run_type="physics", conditions=CONDITIONS,
            start=1000.0 * run + seq, end=1000.0 * run + seq + 1,
            result=TestResult(
                500, 500.0, t=1.0, p=float(stats.norm.sf(value)), z=float(value), channels=channels,
                rate=RateResult(WindowCut.TIME, 500.0, 0.0, 10.0, 0.5, 0.0),
                nuisances={"gas": NuisanceResult(0.1, Profiled(0.2, 0.1, 1.0), Profiled(0.3, 0.1, 2.0))},
            ),
        )
        for seq, value in enumerate(z)
    ]  # fmt: skip


def growing(n_runs: int = 30, first_bad: int = 16, per_run: int = 12) -> list[RunStatistics]:
    rng = np.random.default_rng(4)
    runs = []
    for run in range(1, n_runs + 1):
        grown = np.maximum(0, (run - first_bad) * per_run + np.arange(per_run)) * 0.03
        runs.append(summarise_run(windows(run, rng.standard_normal(per_run) + grown)))
    return runs


def test_a_fault_that_grows_from_run_16_is_dated_and_later_runs_are_marked() -> None:
    (trend,) = follow_runs(growing())
    assert trend.onset is not None
    assert trend.onset.is_growing
    assert trend.place(trend.onset.low) <= (16, 0) <= trend.place(trend.onset.high)
    assert re.fullmatch(
        r"since about run 1[567], between window \d+ of run 1[3456] and window \d+ of run 1[67]: "
        r"Z is higher, rising to 5\.\d",
        trend.describe_onset(),
    )
    marked = {run.run for run in trend.runs if run.marks}
    assert marked >= set(range(22, 31))
    assert not marked & set(range(1, 16))
    assert trend.runs[-1].marks[0].startswith("mean Z 4.")


def test_a_step_within_a_run_is_dated_to_its_windows() -> None:
    rng = np.random.default_rng(5)
    z = rng.standard_normal(60)
    z[23:] += 4.0
    (trend,) = follow_runs([summarise_run(windows(run, z[20 * run - 20 : 20 * run])) for run in (1, 2, 3)])
    assert (
        trend.describe_onset()
        in (
            "since run 2, at window 3: Z is higher, by 4.1",
            "since run 2, between windows 2 and 3: Z is higher, by 4.1",
        )
        or "since run 2" in trend.describe_onset()
    )
    assert trend.onset is not None
    assert trend.onset.low <= 23 <= trend.onset.high


@pytest.mark.parametrize("n", [0, 3, 7, 20, 300])
def test_healthy_and_short_sequences_have_no_onset(n: int) -> None:
    rng = np.random.default_rng(6)
    assert sum(find_onset(rng.standard_normal(n)) is not None for _ in range(100)) <= 3


@pytest.mark.parametrize(("shift", "is_growing"), [(0.7, False), (2.0, False), (2.0, True)])
def test_the_interval_holds_the_truth(shift: float, is_growing: bool) -> None:
    rng = np.random.default_rng(7)
    hits = []
    for _ in range(100):
        z = rng.standard_normal(200)
        z[120:] += shift * (np.arange(80) / 40 if is_growing else 1.0)
        found = find_onset(z)
        if found is not None:
            hits.append(found.low <= 120 <= found.high)
    assert len(hits) > 70
    assert np.mean(hits) > 0.88


def test_infinite_and_improving_significances_are_no_deterioration() -> None:
    z = np.concatenate([np.full(50, 2.0), np.full(50, -2.0)])
    assert find_onset(z) is None
    assert find_onset(np.array([-np.inf] * 20 + [np.inf] * 20)) is not None


def test_a_run_is_summarised() -> None:
    verdicts = windows(7, np.array([0.0, 4.0, 1.0, 9.0]), n_dead=2)
    found = summarise_run(verdicts[::-1])
    assert (found.run, found.n_windows, found.n_judged, found.n_bad, found.bad_share) == (7, 4, 4, 2, 0.5)
    assert found.rate_hz == 50.0
    assert (found.begin, found.end) == (7000.0, 7004.0)
    assert found.z.tolist() == [0.0, 4.0, 1.0, 5.0]
    assert found.nuisances == {"gas": pytest.approx(0.2)}
    assert found.conditions == {"hv": 1200.0}
    assert (found.n_dead, found.n_noisy) == (2, 0)


def test_another_number_of_dead_channels_marks_a_run_and_streams_are_apart() -> None:
    z = np.zeros(10)
    runs = [
        summarise_run(windows(run, z, stream=stream, n_dead=n))
        for stream, dead in (("a", (0, 0, 1)), ("b", (1, 1, 1)))
        for run, n in enumerate(dead)
    ]
    a, b = follow_runs(runs)
    assert [run.marks for run in a.runs] == [(), (), ("1 dead channels, before 0",)]
    assert not any(run.marks for run in b.runs)


def test_windows_that_are_null_count_for_nothing_but_their_number() -> None:
    verdicts = [
        make_verdict(
            stream="s", run=1, seq=seq, quality=Quality.NULL, reason="too few", bundle="", seconds=0.0,
            judged_at=0.0, result=TestResult(3, 500.0, reason="too few"),
        )
        for seq in range(3)
    ]  # fmt: skip
    found = summarise_run(verdicts)
    assert (found.n_windows, found.bad_share, found.z_quantiles, found.rate_hz) == (3, None, (), None)
    (trend,) = follow_runs([found])
    assert trend.describe_onset() == ""
