"""Figures of reports: qualities of a run over time, and toys of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dqm.events import FloatArray, Quality
from dqm.export.charts import Figure
from dqm.export.flags import UNKNOWN, Flag
from dqm.export.words import write_iso

__all__ = ["histogram", "null_table", "p_values", "timeline"]

_BINS = 20
_BARS = {str(Quality.GOOD): ("good", 5), UNKNOWN: ("null", 2), "Medium": ("medium", 10), "Bad": ("bad", 15)}
"""Colour and height of a bar: the worse the quality, the higher the bar."""


def timeline(flags: Sequence[Flag]) -> Figure:
    """Draw the quality of every stream over time, as bars.

    Parameters
    ----------
    flags : sequence of Flag
        Stream by stream.

    Returns
    -------
    dict
        ``data`` and ``layout``.
    """
    streams = list(dict.fromkeys(flag.stream for flag in flags))
    data = []
    for name, (colour, width) in _BARS.items():
        x: list[str | None] = []
        y: list[str | None] = []
        words: list[str | None] = []
        for flag in flags:
            if flag.flag == name:
                x += [write_iso(flag.start), write_iso(flag.end), None]
                y += [flag.stream, flag.stream, None]
                words += [f"{name}: {flag.comment}"] * 2 + [None]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": x,
                "y": y,
                "text": words,
                "hovertemplate": "%{y}, %{text}<extra></extra>",
                "line": {"color": f"var(--{colour})", "width": width},
            }
        )
    return {
        "data": data,
        "layout": {
            "height": 110 + 24 * len(streams),
            "xaxis": {"type": "date", "title": {"text": "UTC"}},
            "yaxis": {"categoryarray": streams[::-1], "categoryorder": "array", "showgrid": False},
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom"},
            "hovermode": "closest",
        },
    }


def p_values(values: Sequence[float]) -> Figure:
    """Draw the histogram of p-values, which is flat for healthy data, with the expectation.

    Parameters
    ----------
    values : sequence of float
        p-values, 0 to 1.

    Returns
    -------
    dict
        ``data`` and ``layout``.
    """
    counts, edges = np.histogram(values, bins=_BINS, range=(0.0, 1.0))
    expected = len(values) / _BINS
    figure = histogram(counts.astype(float), edges, "p-value", "windows")
    figure["layout"]["shapes"] = [_level(expected, "solid")] + [
        _level(max(0.0, expected + sign * np.sqrt(expected)), "dot") for sign in (-1.0, 1.0)
    ]
    return figure


def null_table(t: FloatArray) -> Figure:
    """Draw the histogram of the statistic in healthy toys.

    Parameters
    ----------
    t : ndarray, shape (n_toys,)
        Statistic of the toys.

    Returns
    -------
    dict
        ``data`` and ``layout``.
    """
    counts, edges = np.histogram(t, bins="auto")
    return histogram(counts.astype(float), edges, "t", "toys")


def histogram(counts: FloatArray, edges: FloatArray, title: str, unit: str) -> Figure:
    """Draw counts in bins.

    Parameters
    ----------
    counts : ndarray, shape (n_bins,)
        Height of the bars.
    edges : ndarray, shape (n_bins + 1,)
        Edges of the bins, ascending.
    title, unit : str
        Name of the axis, and of what is counted.

    Returns
    -------
    dict
        ``data`` and ``layout``.
    """
    bars: Mapping[str, Any] = {
        "type": "bar",
        "x": ((edges[:-1] + edges[1:]) / 2.0).tolist(),
        "y": counts.tolist(),
        "width": np.diff(edges).tolist(),
        "marker": {"color": "var(--series-0)", "line": {"width": 1, "color": "var(--panel)"}},
    }
    return {
        "data": [dict(bars)],
        "layout": {
            "height": 260,
            "showlegend": False,
            "xaxis": {"title": {"text": title}},
            "yaxis": {"title": {"text": unit}, "rangemode": "tozero"},
        },
    }


def _level(value: float, dash: str) -> Figure:
    line = {"color": "var(--ink)", "width": 1, "dash": dash}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}
