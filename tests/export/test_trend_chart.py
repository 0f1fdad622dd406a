"""Figures of runs: the band of the reference lies behind its own quantity, and is on the axis."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dqm.alarm import StreamTrend, follow_runs
from dqm.alarm.run_summary import summarise_run
from dqm.events import RateResult, WindowCut
from dqm.export.trend_chart import trend_figure, values_figure
from dqm.export.views import BundleFacts, describe_bundle
from dqm.reference import RateTest, StoredBundle
from tests.world import verdict_of

RATE = RateResult(WindowCut.TIME, n_expected=500.0, uncertainty=0.02, live_seconds=5.0, p=0.5, z=0.7)


@pytest.fixture
def facts(bundle: StoredBundle) -> BundleFacts:
    plain = describe_bundle("3f9a", bundle.manifest)
    assert (plain.rate_range_hz, plain.nuisance_ranges) == (None, {})
    return plain.model_copy(update={"nuisance_ranges": {"drift_velocity": (-0.004, 0.004)}})


@pytest.fixture
def trend() -> StreamTrend:
    runs = []
    for run in (1, 2, 3):
        verdicts = [verdict_of(run=run, seq=seq) for seq in range(6)]
        runs.append(summarise_run(replace(one, result=replace(one.result, rate=RATE)) for one in verdicts))
    return follow_runs(runs, {})


def bands(figure: dict[str, object], axis: str) -> list[tuple[float, float]]:
    layout = figure["layout"]
    assert isinstance(layout, dict)
    return [(one["y0"], one["y1"]) for one in layout["shapes"] if one["yref"] == axis]


def test_the_range_of_the_rate_is_that_of_its_test(bundle: StoredBundle) -> None:
    for hz, uncertainty, expected in ((100.0, 0.05, (95.0, 105.0)), (10.0, 2.0, (0.0, 30.0))):
        rate = RateTest(hz=hz, uncertainty=uncertainty)
        assert describe_bundle("3f9a", bundle.manifest, rate=rate).rate_range_hz == pytest.approx(expected)
    assert describe_bundle("3f9a", bundle.manifest, rate=RateTest()).rate_range_hz is None


def test_z_has_the_band_of_healthy_windows_and_the_rate_that_of_each_reference(
    trend: StreamTrend, facts: BundleFacts
) -> None:
    measured = facts.model_copy(update={"rate_range_hz": (190.0, 210.0)})
    figure = trend_figure(trend, [measured, measured, facts])
    assert bands(figure, "y") == [(-1.0, 1.0)]
    assert bands(figure, "y3") == [(190.0, 210.0)], "the same band is drawn once"
    assert set(figure["layout"]["yaxis3"]["autorangeoptions"]["include"]) == {190.0, 210.0}, "it is seen"
    without = trend_figure(trend, [facts])
    assert bands(without, "y3") == []
    assert "autorangeoptions" not in without["layout"]["yaxis3"]


def test_a_nuisance_parameter_has_the_band_of_its_measurement_and_a_condition_what_the_reference_had(
    trend: StreamTrend, facts: BundleFacts
) -> None:
    measured = facts.model_copy(update={"condition_ranges": {"strip_voltage_v": (-1210.0, -1190.0)}})
    constant = facts.model_copy(update={"condition_ranges": {"strip_voltage_v": (-1250.0, -1250.0)}})
    figure = values_figure(trend, [measured, constant])
    assert figure is not None
    places = {one["text"]: number for number, one in enumerate(figure["layout"]["annotations"], 1)}
    axis = "y" if places["strip_voltage_v"] == 1 else f"y{places['strip_voltage_v']}"
    assert bands(figure, axis) == [(-1210.0, -1190.0), (-1250.0, -1250.0)]
    kinds = [one["type"] for one in figure["layout"]["shapes"] if one["yref"] == axis]
    assert kinds == ["rect", "line"], "a single number is a line"
    assert -1250.0 in figure["layout"][axis.replace("y", "yaxis")]["autorangeoptions"]["include"]
    figure = values_figure(trend, [facts])
    assert figure is not None
    places = {one["text"]: number for number, one in enumerate(figure["layout"]["annotations"], 1)}
    axes = {name: "y" if place == 1 else f"y{place}" for name, place in places.items()}
    assert bands(figure, axes["drift_velocity"]) == [(-0.004, 0.004)]
    assert bands(figure, axes["strip_voltage_v"]) == []


def test_runs_that_differ_in_a_value_are_squares_in_its_figure(trend: StreamTrend) -> None:
    differing = {"strip_voltage_v": {trend.runs[-1].run}}
    figure = values_figure(replace(trend, differing=differing))
    assert figure is not None
    symbols = {one["name"]: one["marker"]["symbol"] for one in figure["data"]}
    assert symbols["strip_voltage_v"] == ["circle"] * (len(trend.runs) - 1) + ["square"]
    assert set(symbols["drift_velocity"]) == {"circle"}
    assert figure["data"][0]["name"] == "strip_voltage_v", "first what differs"
