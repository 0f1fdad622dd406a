"""Figures, as the plotting library itself checks them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from importlib.resources import files

import numpy as np
import plotly.graph_objects as go
import pytest

from dqm.alarm import Thresholds
from dqm.events import Quality, RateResult, Verdict, WindowCut
from dqm.export import charts, map_charts
from dqm.web.queries import summarise
from tests.world import explanation_of, verdict_of

STYLE = files("dqm.export").joinpath("static/page.css").read_text()
COLOURS = set(re.findall(r"--([a-z0-9-]+): #", STYLE))


THRESHOLDS = Thresholds(p_threshold=0.003, drift_limit=8.0, largest_pull=3.2)


def check(figure: charts.Figure) -> None:
    """Let plotly validate a figure; colours must be variables of the style sheet."""
    text = json.dumps(figure, allow_nan=False)
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", text)) <= COLOURS
    go.Figure(json.loads(re.sub(r"var\(--[a-z0-9-]+\)", "#123456", text)))


def test_the_history_tells_qualities_apart_by_shape() -> None:
    windows = [summarise(verdict_of(seq=seq, p=p)) for seq, p in enumerate([0.5, 0.005, 1e-8, None])]
    figure = charts.history(windows, THRESHOLDS)
    check(figure)
    qualities = {t["name"]: t for t in figure["data"] if t["yaxis"] == "y"}
    assert len({t["marker"]["symbol"] for t in qualities.values()}) == len(Quality)
    assert qualities["Null"]["customdata"] == ["/windows/chamber-1/7/3"]
    shown = {t["name"]: t["y"] for t in figure["data"] if t["yaxis"] == "y3"}
    assert shown == {"Null": [], "Good": [0.5], "Medium": [0.005], "Bad": [1e-8]}
    assert [t["name"] for t in figure["data"] if t["yaxis"] == "y4"] == ["drift_velocity"]


def test_the_history_is_over_the_time_of_the_data_unless_runs_have_the_same_times() -> None:
    def times_of(*verdicts: Verdict) -> tuple[str, list[str]]:
        figure = charts.history([summarise(one) for one in verdicts], THRESHOLDS)
        check(figure)
        (good,) = [t for t in figure["data"] if (t["yaxis"], t["name"]) == ("y", "Good")]
        return figure["layout"]["xaxis"]["title"]["text"], good["x"]

    windows = [verdict_of(seq=seq, judged_at=9000.0, start=60.0 * seq, end=60.0 * seq + 60) for seq in (1, 0)]
    by_data = ["1970-01-01T00:02:00.000+00:00", "1970-01-01T00:01:00.000+00:00"]
    assert times_of(*windows) == ("end of the data, UTC", by_data)
    later = verdict_of(run=8, judged_at=9000.0, start=120.0, end=180.0)
    assert times_of(later, *windows)[0] == "end of the data, UTC"
    again = verdict_of(run=8, judged_at=9900.0, start=60.0, end=90.0)
    assert times_of(again, *windows) == (
        "judged, UTC",
        ["1970-01-01T02:45:00.000+00:00", *["1970-01-01T02:30:00.000+00:00"] * 2],
    )
    assert times_of(verdict_of(start=None, end=None), *windows)[0] == "judged, UTC"


def test_a_history_without_nuisance_parameters_has_no_row_for_them() -> None:
    verdict = verdict_of()
    plain = replace(verdict, result=replace(verdict.result, nuisances={}))
    figure = charts.history([summarise(plain)], THRESHOLDS)
    check(figure)
    assert "yaxis4" not in figure["layout"]
    assert [shape["yref"] for shape in figure["layout"]["shapes"]] == ["y2", "y3"], (
        "healthy windows, and the limit"
    )
    check(charts.history([], THRESHOLDS))


def test_the_history_has_a_row_for_the_number_of_events_where_one_is_expected() -> None:
    verdict = verdict_of()
    few = RateResult(WindowCut.TIME, 488.0, uncertainty=0.02, live_seconds=10.0, p=1e-15, z=-8.0)
    dying = replace(verdict, quality=Quality.BAD, result=replace(verdict.result, n_data=122, rate=few))
    figure = charts.history([summarise(dying), summarise(verdict)], THRESHOLDS)
    check(figure)
    (row,) = [trace for trace in figure["data"] if trace["yaxis"] == "y5"]
    assert (row["name"], row["y"]) == ("Bad", [0.25])
    assert row["text"] == ["run 7, window 0: 122 events where 488 are expected, p < 1e-15"]
    assert ("y5", 1.0) in [(s["yref"], s["y0"]) for s in figure["layout"]["shapes"]]
    assert ("y5", "reference") in [(n["yref"], n["text"]) for n in figure["layout"]["annotations"]]
    assert figure["layout"]["yaxis5"]["title"]["text"] == "n / expected"
    assert "yaxis5" not in charts.history([summarise(verdict)], THRESHOLDS)["layout"]


@pytest.mark.parametrize("p", [0.9, 1e-4, 1e-15])
def test_the_history_has_the_limits_beyond_which_windows_alarm(p: float) -> None:
    layout = charts.history([summarise(verdict_of(p=p))], THRESHOLDS)["layout"]
    assert [(shape["yref"], shape["y0"]) for shape in layout["shapes"]] == [
        ("y2", -1.0), ("y4", -1.0), ("y3", 0.003), ("y4", -3.2), ("y4", 3.2),
    ]  # fmt: skip
    lowest, highest = layout["yaxis3"]["range"]
    assert lowest < math.log10(min(p, 0.003)) <= 0 < highest
    assert -lowest / layout["yaxis3"]["dtick"] < 6


def test_maps_come_in_the_order_of_their_share_with_errors() -> None:
    explanation = explanation_of()
    figures = map_charts.maps(explanation)
    assert [f["layout"]["xaxis"]["title"]["text"] for f in figures] == ["t_2", "t_1", "theta"]
    for figure in [*figures, *map_charts.pair_maps(explanation.pairs)]:
        check(figure)
    (window,) = [t for t in figures[0]["data"] if t["name"] == "window"]
    seen = explanation.maps[1].data.tolist()
    assert window["y"] == seen
    assert window["error_y"]["array"] == pytest.approx([math.sqrt(n) for n in seen])


def test_bins_without_reference_have_no_ratio() -> None:
    plain = explanation_of()
    maps = tuple(replace(r, reference=0.0 * r.reference) for r in plain.maps)
    pairs = tuple(replace(r, reference=0.0 * r.reference) for r in plain.pairs)
    explanation = replace(plain, maps=maps, pairs=pairs)
    for figure in map_charts.maps(explanation):
        check(figure)
    for figure in map_charts.pair_maps(explanation.pairs):
        check(figure)
        assert all(value is None for row in figure["data"][0]["z"] for value in row)


def test_a_ratio_fades_where_few_events_are_expected() -> None:
    (pair, *_) = explanation_of().pairs
    reference = np.full_like(pair.reference, 40.0)
    reference[0, 1], reference[1, 0] = 0.1, 0.0
    data, fitted = reference.copy(), reference.copy()
    data[0, 1], fitted[0, 1] = 1.0, 1.6  # sixteen times the reference, of which nobody can be sure
    fitted[1, 1] = 80.0
    ratio, significance = map_charts.pair_maps([replace(pair, reference=reference, data=data, fitted=fitted)])
    check(ratio)
    check(significance)
    colours, veil = ratio["data"]
    assert colours["zmax"] == 1.0, "an uncertain cell sets no scale"
    assert veil["z"][1][0] == pytest.approx(0.9)
    assert veil["z"][0][1] == 1.0
    assert veil["z"][1][1] == 0.0
    assert significance["data"][0]["z"][0][1] is None
    assert 0 < significance["data"][0]["z"][1][0] < 2.5
