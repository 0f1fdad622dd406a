"""Figure of the runs of a stream for plotly.js: Z, share of Bad windows and rate, run after run."""

from __future__ import annotations

from dqm.alarm import RunStatistics, StreamTrend
from dqm.events import Quality
from dqm.export.charts import Figure

__all__ = ["trend_figure"]


def trend_figure(trend: StreamTrend) -> Figure:
    """Draw the runs of a stream: those that differ have another symbol, and the onset is a band.

    Parameters
    ----------
    trend : StreamTrend
        At least one run.

    Returns
    -------
    dict
        ``data`` and ``layout``.
    """
    names = [str(run.run) for run in trend.runs]
    data = [_quantiles(trend.runs, names), _shares(trend.runs, names)]
    layout: Figure = {
        "height": 360,
        "xaxis": {"type": "category", "title": {"text": "run"}, "nticks": 20, "anchor": "y2"},
        "yaxis": {"title": {"text": "Z"}, "zeroline": True, "domain": [0.4, 1.0]},
        "yaxis2": {"title": {"text": "Bad, %"}, "rangemode": "tozero", "domain": [0.0, 0.34]},
        "legend": {"orientation": "h", "y": 1.12},
        "shapes": _onset_band(trend, names),
    }
    if any(run.rate_hz is not None for run in trend.runs):
        data.append(_rates(trend.runs, names))
        layout["height"] = 450
        layout["xaxis"]["anchor"] = "y3"
        layout["yaxis"]["domain"], layout["yaxis2"]["domain"] = [0.52, 1.0], [0.26, 0.47]
        layout["yaxis3"] = {
            "title": {"text": "events/s"}, "rangemode": "tozero", "domain": [0.0, 0.21],
        }  # fmt: skip
    return {"data": data, "layout": layout}


def _rates(runs: tuple[RunStatistics, ...], names: list[str]) -> Figure:
    return {
        "type": "scatter", "mode": "markers", "name": "events a second", "yaxis": "y3", "x": names,
        "y": [run.rate_hz for run in runs], "marker": {"color": "var(--series-1)", "size": 7},
    }  # fmt: skip


def _quantiles(runs: tuple[RunStatistics, ...], names: list[str]) -> Figure:
    found = [(name, run, run.z_quantiles) for name, run in zip(names, runs, strict=True) if run.z_quantiles]
    return {
        "type": "scatter", "mode": "markers", "name": "Z: median, 16 and 84 % (squares: runs that differ)",
        "x": [name for name, _, _ in found],
        "y": [z[1] for _, _, z in found],
        "error_y": {
            "type": "data", "symmetric": False, "color": "var(--faint)",
            "array": [z[2] - z[1] for _, _, z in found], "arrayminus": [z[1] - z[0] for _, _, z in found],
        },
        "marker": {
            "symbol": ["square" if run.marks else "circle" for _, run, _ in found],
            "color": ["var(--bad)" if run.marks else "var(--series-0)" for _, run, _ in found],
            "size": 8,
        },
        "text": ["; ".join(run.marks) for _, run, _ in found],
        "hovertemplate": "run %{x}: Z %{y:.1f} %{text}<extra></extra>",
    }  # fmt: skip


def _shares(runs: tuple[RunStatistics, ...], names: list[str]) -> Figure:
    return {
        "type": "bar", "name": "Bad windows, %", "yaxis": "y2", "x": names,
        "y": [None if run.bad_share is None else 100.0 * run.bad_share for run in runs],
        "text": [f"{run.counts.get(Quality.BAD, 0)} of {run.n_judged}" for run in runs],
        "textposition": "none",
        "hovertemplate": "run %{x}: %{text} windows<extra></extra>",
        "marker": {"color": "var(--bad)"},
    }  # fmt: skip


def _onset_band(trend: StreamTrend, names: list[str]) -> list[Figure]:
    """Shade the runs in which windows may have begun to be worse."""
    if trend.onset is None:
        return []
    first, last = (names.index(str(trend.place(end)[0])) for end in (trend.onset.low, trend.onset.high))
    return [
        {
            "type": "rect", "xref": "x", "yref": "paper",
            "x0": first - 0.5, "x1": last + 0.5, "y0": 0, "y1": 1,
            "fillcolor": "var(--medium)", "opacity": 0.2, "line": {"width": 0}, "layer": "below",
        }
    ]  # fmt: skip
