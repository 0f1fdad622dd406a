"""Figures of runs for plotly.js: those of one stream side by side, and the Bad windows of all streams."""

from __future__ import annotations

from collections.abc import Sequence

from dqm.alarm import RunStatistics, StreamTrend
from dqm.export.charts import Figure, healthy_band
from dqm.export.run_trends import ShareTable
from dqm.export.views import BundleFacts
from dqm.store import BadShares

__all__ = ["MOST_STREAMS", "MOST_VALUES", "shares_figure", "table_values", "trend_figure", "values_figure"]

MOST_VALUES = 8
"""Most values beside the windows that are drawn."""

MOST_CELLS = 10_000
"""Most values beside the windows in the table: the page of 1000 runs shall answer within 300 ms."""

ROW_PIXELS = 110
STREAM_PIXELS = 16

MOST_STREAMS = 60
"""Most streams that are drawn together: those with the largest share of Bad windows."""


def trend_figure(trend: StreamTrend, bundles: Sequence[BundleFacts] = ()) -> Figure:
    """Draw the runs of a stream: those that differ have another symbol, and the onset is a band.

    Z has the band of two of three windows like the reference; the rate has that of each reference.

    Parameters
    ----------
    trend : StreamTrend
        At least one run.
    bundles : sequence of BundleFacts
        References of the stream.

    Returns
    -------
    dict
        ``data`` and ``layout``.
    """
    names = [str(run.run) for run in trend.runs]
    data = [_quantiles(trend, names), _shares(trend.runs, names)]
    layout: Figure = {
        "height": 360,
        "xaxis": {"type": "category", "title": {"text": "run"}, "nticks": 20, "anchor": "y2"},
        "yaxis": {"title": {"text": "Z"}, "zeroline": True, "domain": [0.4, 1.0]},
        "yaxis2": {"title": {"text": "Bad, %"}, "rangemode": "tozero", "domain": [0.0, 0.34]},
        "legend": {"orientation": "h", "y": 1.12},
        "shapes": [*_onset_band(trend, names), healthy_band("y")],
    }
    if any(run.rate_hz is not None for run in trend.runs):
        data.append(_rates(trend, names))
        layout["height"] = 450
        layout["xaxis"]["anchor"] = "y3"
        layout["yaxis"]["domain"] = [0.52, 1.0]
        layout["yaxis2"]["domain"] = [0.26, 0.47]
        layout["yaxis3"] = {
            "title": {"text": "events/s"}, "rangemode": "tozero", "domain": [0.0, 0.21],
        }  # fmt: skip
        _add_bands(layout, "y3", [one.rate_range_hz for one in bundles if one.rate_range_hz])
    return {"data": data, "layout": layout}


def values_figure(trend: StreamTrend, bundles: Sequence[BundleFacts] = ()) -> Figure | None:
    """Draw the means of the values that come with the windows, one below the other.

    Behind a nuisance parameter is the band of each reference: nominal, within the error of a measurement.
    Behind a condition is the one that its events were taken under.

    Parameters
    ----------
    trend : StreamTrend
        At least one run.
    bundles : sequence of BundleFacts
        References of the stream.

    Returns
    -------
    dict or None
        ``data`` and ``layout``; None if nothing comes with them.
    """
    runs = [(str(run.run), values) for run, values in zip(trend.runs, trend.named_values, strict=True)]
    found = trend.value_names[:MOST_VALUES]
    if not found:
        return None
    data: list[Figure] = []
    layout: Figure = {
        "height": 60 + ROW_PIXELS * len(found),
        "showlegend": False,
        "xaxis": {"type": "category", "title": {"text": "run"}, "nticks": 20, "anchor": f"y{len(found)}"},
        "shapes": _onset_band(trend, [name for name, _ in runs]),
        "annotations": [],
    }
    for number, name in enumerate(found, start=1):
        axis = "y" if number == 1 else f"y{number}"
        top = 1.0 - (number - 1) / len(found)
        data.append(
            {
                "type": "scatter", "mode": "markers", "name": name, "yaxis": axis,
                "x": [run for run, _ in runs], "y": [_rounded(values.get(name)) for _, values in runs],
                "marker": _markers(trend, name, "var(--series-0)", 6),
                "hovertemplate": f"run %{{x}}: %{{y:.4g}}<extra>{name}</extra>",
            }
        )  # fmt: skip
        layout[f"yaxis{'' if number == 1 else number}"] = {
            "domain": [top - 0.72 / len(found), top - 0.08 / len(found)],
            "nticks": 4,
        }
        _add_bands(layout, axis, [band for one in bundles if (band := one.value_range(name))])
        layout["annotations"].append(
            {
                "text": name, "xref": "paper", "yref": "paper", "x": 0.0, "y": top - 0.08 / len(found),
                "xanchor": "left", "yanchor": "bottom", "showarrow": False,
            }
        )  # fmt: skip
    return {"data": data, "layout": layout}


def table_values(trend: StreamTrend) -> list[str]:
    """Choose the values that the table has as columns, in the order of `StreamTrend.value_names`.

    All of them up to `MOST_CELLS` cells; with more runs those in which most runs differ, and the first by the
    alphabet.
    """
    return trend.value_names[: max(MOST_VALUES, MOST_CELLS // max(1, len(trend.runs)))]


def shares_figure(table: ShareTable, streams: list[str], choice: str) -> Figure:
    """Draw the share of Bad windows of every stream and run; a click leads to the runs of the stream.

    Parameters
    ----------
    table : ShareTable
        What was counted.
    streams : list of str
        Streams that have windows in it, from the top; 60 of them are drawn.
    choice : str
        Which runs these are, as the query of an address: ``last=30``.

    Returns
    -------
    dict
        ``data`` and ``layout``.
    """
    streams = streams[:MOST_STREAMS]
    columns = range(len(table.columns))
    trace: Figure = {
        "type": "heatmap", "x": [one.name for one in table.columns], "y": streams, "xgap": 1, "ygap": 1,
        "zmin": 0, "zmax": 100,
        "z": [[_percent(table.cells[name].get(column)) for column in columns] for name in streams],
        "meta": {"address": f"/trends?{choice}&stream="},
        "hovertemplate": "%{y}, run %{x}: %{z:.3g} % Bad<extra></extra>",
        "colorscale": [[0, "var(--raised)"], [0.001, "var(--medium)"], [1, "var(--bad)"]],
        "colorbar": {"title": {"text": "Bad, %"}, "thickness": 12},
    }  # fmt: skip
    layout: Figure = {
        "height": 110 + STREAM_PIXELS * len(streams),
        "showlegend": False,
        "xaxis": {"type": "category", "title": {"text": "run"}, "nticks": 20, "showgrid": False},
        "yaxis": {
            "type": "category",
            "autorange": "reversed",
            "nticks": len(streams),
            "showgrid": False,
        },
    }
    return {"data": [trace], "layout": layout}


def _percent(share: BadShares | None) -> float | None:
    return round(100.0 * share.n_bad / share.n_judged, 1) if share is not None and share.n_judged else None


def _rounded(value: float | None) -> float | None:
    """Leave out digits that are rounding errors: an axis would show them."""
    return None if value is None else float(f"{value:.8g}")


def _markers(trend: StreamTrend, name: str, color: str, size: int) -> Figure:
    """Give runs that differ in a value another symbol."""
    differing = trend.differing.get(name, ())
    differ = [run.run in differing for run in trend.runs]
    return {
        "symbol": ["square" if one else "circle" for one in differ],
        "color": ["var(--bad)" if one else color for one in differ],
        "size": size,
    }


def _rates(trend: StreamTrend, names: list[str]) -> Figure:
    return {
        "type": "scatter", "mode": "markers", "name": "events a second", "yaxis": "y3", "x": names,
        "y": [run.rate_hz for run in trend.runs], "marker": _markers(trend, "rate", "var(--series-1)", 7),
    }  # fmt: skip


def _quantiles(trend: StreamTrend, names: list[str]) -> Figure:
    runs = zip(names, trend.marked_runs, strict=True)
    found = [(name, marks, z) for name, (run, marks) in runs if (z := run.z_quantiles)]
    return {
        "type": "scatter", "mode": "markers", "name": "Z: median, 16 and 84 % (squares: runs that differ)",
        "x": [name for name, _, _ in found],
        "y": [z[1] for _, _, z in found],
        "error_y": {
            "type": "data", "symmetric": False, "color": "var(--faint)",
            "array": [z[2] - z[1] for _, _, z in found], "arrayminus": [z[1] - z[0] for _, _, z in found],
        },
        "marker": {
            "symbol": ["square" if marks else "circle" for _, marks, _ in found],
            "color": ["var(--bad)" if marks else "var(--series-0)" for _, marks, _ in found],
            "size": 8,
        },
        "text": ["; ".join(marks) for _, marks, _ in found],
        "hovertemplate": "run %{x}: Z %{y:.1f} %{text}<extra></extra>",
    }  # fmt: skip


def _shares(runs: tuple[RunStatistics, ...], names: list[str]) -> Figure:
    return {
        "type": "bar", "name": "Bad windows, %", "yaxis": "y2", "x": names,
        "y": [None if run.bad_share is None else 100.0 * run.bad_share for run in runs],
        "text": [f"{run.n_bad} of {run.n_judged}" for run in runs],
        "textposition": "none",
        "hovertemplate": "run %{x}: %{text} windows<extra></extra>",
        "marker": {"color": "var(--bad)"},
    }  # fmt: skip


def _add_bands(layout: Figure, axis: str, bands: Sequence[tuple[float, float]]) -> None:
    """Shade what references have, and let the axis reach as far."""
    if bands:
        layout["shapes"] += [
            healthy_band(axis, low, high) if low < high else _line(axis, low)
            for low, high in dict.fromkeys(bands)
        ]
        reach = [end for band in bands for end in band]
        layout[axis.replace("y", "yaxis")]["autorangeoptions"] = {"include": reach}


def _line(axis: str, value: float) -> Figure:
    """Draw what references have where it is a single number."""
    place = {"xref": "paper", "x0": 0, "x1": 1, "yref": axis, "y0": value, "y1": value}
    look = {"opacity": 0.6, "line": {"width": 2, "color": "var(--series-0)", "dash": "dash"}}
    return {"type": "line", "layer": "below"} | place | look


def _onset_band(trend: StreamTrend, names: list[str]) -> list[Figure]:
    """Shade the runs in which windows may have begun to be worse."""
    if trend.onset_runs is None:
        return []
    first, last = (names.index(str(run)) for run in trend.onset_runs)
    return [
        {
            "type": "rect", "xref": "x", "yref": "paper",
            "x0": first - 0.5, "x1": last + 0.5, "y0": 0, "y1": 1,
            "fillcolor": "var(--medium)", "opacity": 0.2, "line": {"width": 0}, "layer": "below",
        }
    ]  # fmt: skip
