"""Runs beside each other: what they add up to, which differ, and since when windows are worse."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dqm.alarm import RunStatistics, StreamTrend, find_onset, follow_runs, means, runs_to_read, summarise_run
from dqm.alarm import run_trend as module
from dqm.alarm.run_summary import BIN_WIDTH
from dqm.alarm.run_trend import fisher_p
from dqm.alarm.run_values import Mean, find_usual
from dqm.events import ChannelSummary, Explanation, Quality, TestResult, Verdict, WindowCut
from dqm.events.result import NuisanceResult, Profiled, RateResult
from tests.verdicts import make_verdict

CONDITIONS: dict[str, float | str] = {"hv": 1200.0, "crate": "b"}


def windows(
    run: int,
    z: np.ndarray,
    *,
    stream: str = "s",
    n_dead: int | None = None,
    n_data: int = 500,
    gas: float = 0.2,
    conditions: dict[str, float | str] = CONDITIONS,
) -> list[Verdict]:
    channels = None if n_dead is None else ChannelSummary(64, n_dead, 0, 0)
    return [
        make_verdict(
            stream=stream, run=run, seq=seq, quality=Quality.BAD if value > 3 else Quality.GOOD, reason="",
            bundle="b", seconds=0.1, judged_at=0.0, run_type="physics", conditions=conditions,
            start=1000.0 * run + seq, end=1000.0 * run + seq + 1,
            result=TestResult(
                n_data, 500.0, t=1.0, p=float(stats.norm.sf(value)), z=float(value), channels=channels,
                rate=RateResult(WindowCut.TIME, 500.0, 0.0, 10.0, 0.5, 0.0),
                nuisances={"gas": NuisanceResult(0.1, Profiled(gas, 0.1, 1.0), Profiled(0.3, 0.1, 2.0))},
            ),
        )
        for seq, value in enumerate(z)
    ]  # fmt: skip


def follow(verdicts: list[Verdict], *, exactly: bool = True) -> StreamTrend:
    """Summaries and windows of some runs of a stream, as the store gives them."""
    runs: dict[int, list[Verdict]] = {}
    for verdict in verdicts:
        runs.setdefault(verdict.window.run, []).append(verdict)
    summaries = [summarise_run(of_run) for of_run in runs.values()]
    read = {run: [(v.window.seq, v.result.z or 0.0) for v in runs[run]] for run in runs_to_read(summaries)}
    return follow_runs(summaries, read if exactly else {})


def growing(n_runs: int = 30, first_bad: int = 16, per_run: int = 12) -> list[Verdict]:
    rng = np.random.default_rng(4)
    verdicts: list[Verdict] = []
    for run in range(1, n_runs + 1):
        grown = np.maximum(0, (run - first_bad) * per_run + np.arange(per_run)) * 0.03
        verdicts += windows(run, rng.standard_normal(per_run) + grown)
    return verdicts


def test_a_fault_that_grows_from_run_16_is_dated_and_later_runs_are_marked() -> None:
    trend = follow(growing())
    assert trend.onset is not None
    assert trend.onset.is_growing
    assert trend.places[trend.onset.low] <= (16, 0) <= trend.places[trend.onset.high]
    assert re.fullmatch(
        r"since about run 1[567], between window \d+ of run 1[3456] and window \d+ of run 1[67]: "
        r"Z is higher, rising to 5\.\d",
        trend.describe_onset(),
    )
    marked = {run.run for run, marks in trend.marked_runs if marks}
    assert marked >= set(range(22, 31))
    assert not marked & set(range(1, 16))
    assert trend.marks[-1][0].startswith("mean Z 4.")


def test_a_step_within_a_run_is_dated_to_its_windows() -> None:
    rng = np.random.default_rng(5)
    z = rng.standard_normal(60)
    z[23:] += 4.0
    verdicts = [one for run in (1, 2, 3) for one in windows(run, z[20 * run - 20 : 20 * run])]
    trend = follow(verdicts)
    assert re.fullmatch(
        r"since run 2, (at window 3|between windows \d and [345]): Z is higher, by [34]\.\d",
        trend.describe_onset(),
    )
    assert trend.onset is not None
    assert trend.places[trend.onset.low] <= (2, 3) <= trend.places[trend.onset.high]


def test_without_its_windows_an_onset_is_dated_to_runs() -> None:
    trend = follow(growing(), exactly=False)
    assert re.fullmatch(
        r"since about run 1[567], between run 1[3456] and run 1[678]: Z is higher, rising to 5\.\d",
        trend.describe_onset(),
    )


@pytest.mark.slow
def test_of_a_thousand_runs_only_the_windows_near_the_onset_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_READ", 400)
    rng = np.random.default_rng(8)
    z = rng.standard_normal(12_000)
    z[6005:] += 1.0
    verdicts = [one for run in range(1000) for one in windows(run, z[12 * run : 12 * run + 12])]
    runs = [summarise_run(verdicts[12 * run : 12 * run + 12]) for run in range(1000)]
    wanted = runs_to_read(runs)
    assert 500 in wanted
    assert 2 <= len(wanted) <= 400 // 12
    trend = follow(verdicts)
    assert trend.onset is not None
    assert trend.places[trend.onset.low] <= (500, 5) <= trend.places[trend.onset.high]
    healthy = [summarise_run(windows(run, rng.standard_normal(12))) for run in range(100)]
    assert runs_to_read(healthy) == ()
    assert follow_runs(healthy, {}).onset is None


def test_blocks_of_windows_give_the_same_onset_as_their_windows_where_these_are_alike() -> None:
    rng = np.random.default_rng(9)
    means_of_blocks = np.concatenate([rng.normal(0.0, 0.3, 40), rng.normal(1.0, 0.3, 40)])
    counts = rng.integers(1, 9, 80)
    of_blocks = find_onset(means_of_blocks, counts)
    of_windows = find_onset(np.repeat(means_of_blocks, counts))
    assert of_blocks is not None
    assert of_windows is not None
    assert of_blocks.gain == pytest.approx(of_windows.gain)
    assert of_blocks.shift == pytest.approx(of_windows.shift)
    assert int(counts[: of_blocks.place].sum()) == of_windows.place


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
    explained = Explanation((), (), (("t_1", 0.75), ("theta", 0.25)))
    verdicts[1] = replace(verdicts[1], explanation=explained)
    found = summarise_run(verdicts[::-1])
    assert (found.run, found.n_windows, found.n_judged, found.n_bad, found.bad_share) == (7, 4, 4, 2, 0.5)
    assert found.rate_hz == 50.0
    assert (found.begin, found.end) == (7000.0, 7004.0)
    assert (found.n_z, found.sum_z, found.sum_zz) == (4, 10.0, 42.0)
    assert means(found.nuisances) == {"gas": pytest.approx(0.2)}
    assert means(found.conditions) == {"hv": 1200.0}
    assert means(found.features) == {"t_1": 0.75, "theta": 0.25}
    assert (found.n_dead, found.n_noisy) == (2, 0)
    assert set(found.named_values) == {
        "gas", "hv", "dead channels", "noisy channels", "share of t_1", "share of theta",
    }  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 7, 100, 5000])
def test_quantiles_of_a_summary_are_right_to_half_a_bin(n: int) -> None:
    z = np.random.default_rng(n).normal(0.5, 1.5, n)
    found = summarise_run(windows(1, z)).z_quantiles
    assert found == pytest.approx(
        np.quantile(np.clip(z, -5.0, 5.0), (0.16, 0.5, 0.84)), abs=BIN_WIDTH / 2 + 1e-9
    )


def test_windows_add_up_in_any_order() -> None:
    verdicts = windows(3, np.random.default_rng(1).normal(size=40), n_dead=1)
    whole, other = summarise_run(verdicts), summarise_run(verdicts[::-1])
    assert other.sum_z == pytest.approx(whole.sum_z)
    rounded = {"sum_z": whole.sum_z, "sum_zz": whole.sum_zz, "nuisances": whole.nuisances}
    assert replace(other, **rounded) == whole


def test_what_is_no_number_is_left_out_and_names_are_bounded() -> None:
    strange = {f"c{k}": 1.0 for k in range(100)} | {"a": float("nan"), "b": True, "c": "text"}
    verdicts = [
        replace(one, window=replace(one.window, conditions=strange)) for one in windows(1, np.zeros(3))
    ]
    found = summarise_run(verdicts)
    assert len(found.conditions) == 64
    assert not {"a", "b", "c"} & set(found.conditions)
    many = summarise_run(
        replace(one, window=replace(one.window, conditions={f"{k}-{one.window.seq}": 1.0 for k in range(9)}))
        for one in windows(1, np.zeros(50))
    )
    assert len(many.conditions) == 64


def test_a_window_without_a_finite_z_has_none() -> None:
    verdicts = windows(1, np.array([np.nan, np.inf, -np.inf, 0.0]))
    assert summarise_run(verdicts).n_z == 3


@pytest.mark.parametrize(
    "table", [(0, 10, 0, 50), (3, 8, 1, 80), (8, 8, 40, 80), (5, 100, 5, 100), (1, 5, 400, 900)]
)
def test_the_exact_test_of_shares_agrees_with_scipy(table: tuple[int, int, int, int]) -> None:
    k, n, k_before, n_before = table
    expected = stats.fisher_exact([[k, n - k], [k_before, n_before - k_before]])[1]
    assert fisher_p(*table) == pytest.approx(expected, rel=1e-6)


def test_another_number_of_dead_channels_marks_a_run() -> None:
    z = np.zeros(10)
    a, b = (
        follow([one for run, n in enumerate(dead) for one in windows(run, z, n_dead=n)])
        for dead in ((0, 0, 1), (1, 1, 1))
    )
    assert a.marks == ((), (), ("1 dead channel, before 0",))
    assert b.marks == ((), (), ())


def healthy_runs(
    rng: np.random.Generator, n_runs: int = 30, correlation: float = 0.0, n_windows: int = 6
) -> list[RunStatistics]:
    """Runs whose rate, nuisance parameter, voltage and pressure scatter; the pressure may wander."""
    pressure = rng.standard_normal(n_runs)
    for run in range(1, n_runs):
        pressure[run] = correlation * pressure[run - 1] + (1 - correlation**2) ** 0.5 * pressure[run]
    return [
        summarise_run(
            windows(
                run,
                rng.standard_normal(n_windows),
                n_data=int(rng.poisson(500)),
                gas=float(rng.normal(0.2, 0.05)),
                conditions={"hv": float(rng.normal(1200.0, 0.5)), "pressure": 1013.0 + 5.0 * pressure[run]},
            )
        )
        for run in range(n_runs)
    ]


def of_values(trend: StreamTrend) -> list[tuple[str, ...]]:
    """Marks by rate, nuisance parameters and conditions."""
    return [
        tuple(mark for mark in marks if not mark.startswith("mean Z") and " Bad" not in mark)
        for marks in trend.marks
    ]


@pytest.mark.slow
def test_values_of_healthy_runs_mark_one_in_a_thousand() -> None:
    rng = np.random.default_rng(10)
    marked = [bool(one) for _ in range(300) for one in of_values(follow_runs(healthy_runs(rng), {}))]
    assert len(marked) == 9000
    low, high = stats.binom.interval(1 - 1e-4, 300 * 22, 1e-3)
    assert low <= sum(marked) <= high, "the first 8 runs of each have too few before"


def changed(rng: np.random.Generator, from_run: int, n_runs: int = 30, **values: Any) -> StreamTrend:
    """Healthy runs; from one on something else has another value."""
    runs = healthy_runs(rng, n_runs)
    for run in range(from_run, n_runs):
        given = {"n_data": 500, "conditions": {"hv": 1200.0, "pressure": 1013.0}} | values
        runs[run] = summarise_run(windows(run, rng.standard_normal(6), **given))
    return follow_runs(runs, {})


@pytest.mark.parametrize(
    ("values", "name", "told"),
    [
        ({"n_data": 700}, "rate", r"events/s 70, before (49|50)(\.\d+)?"),
        ({"gas": 0.9}, "gas", r"gas 0\.9, before 0\.(1|2)\d*"),
        (
            {"conditions": {"hv": 1250.0, "pressure": 1013.0}},
            "hv",
            r"condition differs: hv 1250, before 1(199|200)(\.\d)?",
        ),
    ],
)
def test_another_rate_nuisance_or_condition_marks_runs_until_it_is_usual(
    values: dict[str, Any], name: str, told: str
) -> None:
    trend = changed(np.random.default_rng(11), 16, **values)
    marks = of_values(trend)
    assert marks[:16] == [()] * 16
    for of_run in marks[16:24]:
        assert len(of_run) == 1
        assert re.fullmatch(told, of_run[0])
    assert marks[24:] == [()] * 6, "after 8 runs it is the usual value"
    assert trend.differing == {name: set(range(16, 24))}
    assert trend.value_names[0] == (name if name != "rate" else "gas")


def test_another_voltage_does_not_end_the_comparison_of_z() -> None:
    rng = np.random.default_rng(12)
    runs = [
        summarise_run(windows(run, rng.standard_normal(6) + 5.0 * (run > 25), conditions={"hv": hv}))
        for run, hv in enumerate([1200.0] * 10 + [1250.0] * 20)
    ]
    marks = follow_runs(runs, {}).marks
    assert marks[10] == ("condition differs: hv 1250, before 1200",)
    by_z = [run for run, of_run in enumerate(marks) if any("mean Z" in one for one in of_run)]
    assert by_z == [26, 27, 28, 29]


def test_steps_of_a_reading_and_short_runs_are_no_difference() -> None:
    constant = [Mean(1200.0, 100.0)] * 10
    assert find_usual(Mean(1200.4, 100.0), constant, 1e-3) is None
    assert find_usual(Mean(1205.0, 100.0), constant, 1e-3) == 1200.0
    assert find_usual(Mean(1205.0, 1.0), constant, 1e-3) is None, "a run of a hundredth of the windows"
    assert find_usual(Mean(1205.0, 100.0), constant[:7], 1e-3) is None, "too few before"
    assert find_usual(Mean(1.0, 100.0), [Mean(0.0, 100.0)] * 8, 1e-3) == 0.0
    one_is_strange = [*constant[:9], Mean(0.0, 100.0)]
    assert find_usual(Mean(1205.0, 100.0), one_is_strange, 1e-3) == 1200.0


def test_what_is_among_the_runs_before_is_never_far_from_them() -> None:
    for rest in ([0.0] * 7, [0.0] * 4 + [1.0] * 3, [0.0] * 9):
        before = [Mean(value, 1.0) for value in (*rest, 1.0, 1.0)][-10:]
        without_shortcut = Mean(1.0 + 1e-9, 1.0)
        assert find_usual(without_shortcut, before, 0.1) is None
        assert find_usual(Mean(1.0, 1.0), before, 0.1) is None


def test_many_differences_are_counted() -> None:
    conditions = [{f"hv_{k}": 1200.0 + 100.0 * (run == 9) for k in range(20)} for run in range(10)]
    runs = [summarise_run(windows(run, np.zeros(6), conditions=c)) for run, c in enumerate(conditions)]
    trend = follow_runs(runs, {})
    assert len(trend.marks[9]) == 5
    assert trend.marks[9][-1] == "16 more values differ"
    assert trend.differing["hv_7"] == {9}


def test_runs_before_those_shown_are_compared_with() -> None:
    runs = healthy_runs(np.random.default_rng(13), 10)
    last = summarise_run(windows(10, np.zeros(6), gas=2.0))
    assert follow_runs([last], {}).marks == ((),)
    trend = follow_runs([last], {}, runs)
    assert [run.run for run in trend.runs] == [10]
    assert trend.marks[0][0].startswith("gas 2, before 0.")


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
    trend = follow_runs([found], {})
    assert trend.describe_onset() == ""
