"""Figures for plotly.js: plain dictionaries; colours are variables of the style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from dqm.alarm import Thresholds, describe_p, describe_rate
from dqm.events import Quality
from dqm.events.summary import WindowSummary
from dqm.export.words import write_iso

__all__ = ["HEALTHY_WORDS", "Figure", "healthy_band", "history"]

Figure = dict[str, Any]

_Moment = Callable[[WindowSummary], str]

_SYMBOLS = {
    Quality.NULL: "circle-open",
    Quality.GOOD: "circle",
    Quality.MEDIUM: "triangle-up",
    Quality.BAD: "square",
}
# not `BEST_TO_WORST`: Null is no measurement and is drawn below, so that a higher point is a larger departure
_LEVELS = {Quality.NULL: 0, Quality.GOOD: 1, Quality.MEDIUM: 2, Quality.BAD: 3}
_PALETTE = ("circle", "diamond", "cross", "x", "star", "hexagon")
_QUALITY_ROW = "y"
_Z_ROW = "y2"
_P_ROW = "y3"
_PULL_ROW = "y4"
_NUMBER_ROW = "y5"
_CHANNEL_ROW = "y6"
HEALTHY_WORDS = "two of three windows like the reference"
"""What `healthy_band` shows."""

NO_P_WORDS = "no window has a p-value: all are Null"
"""What the figure says in the place of points."""

_CHANNEL_STATES = {
    "n_dead": ("dead", "x", "var(--bad)"),
    "n_low": ("low", "triangle-down", "var(--series-0)"),
    "n_noisy": ("noisy", "triangle-up", "var(--medium)"),
}
"""Field of the summary: word, symbol and colour; none has the colour of Good."""


def history(windows: Sequence[WindowSummary], thresholds: Thresholds) -> Figure:
    """Quality, Z, p, number and pulls of windows over time, with the limits beyond which windows count.

    The time is that of the data, if all windows have one and their runs follow each other; otherwise that
    of the test.

    Parameters
    ----------
    windows : sequence of WindowSummary
        The newest first.
    thresholds : Thresholds
        Limits to draw.

    Returns
    -------
    dict
        ``data`` and ``layout``.
    """
    pulled = sorted({name for window in windows for name in window.nuisances})
    counted = any(window.rate for window in windows)
    by_data = _follow_each_other(windows)
    moment = _end_of if by_data else _judged_at
    data = [
        *(
            trace
            for quality in Quality
            for trace in _quality_traces(quality, [w for w in windows if w.quality is quality], moment)
        ),
        *(_pull_trace(n, name, windows, moment) for n, name in enumerate(pulled)),
        *_channel_traces(windows, moment),
    ]
    has_channels = any(w.channels is not None for w in windows)
    rows = [(_QUALITY_ROW, 0.8), (_Z_ROW, 1.6), (_P_ROW, 1.6)]
    rows += [(_NUMBER_ROW, 1.3)] if counted else []
    rows += [(_PULL_ROW, 1.3)] if pulled else []
    rows += [(_CHANNEL_ROW, 1.3)] if has_channels else []
    axes: dict[str, Figure] = {
        _QUALITY_ROW: {
            "tickvals": list(_LEVELS.values()),
            "ticktext": [str(quality) for quality in _LEVELS],
            "range": [-0.5, 3.5],
            "title": {"text": "quality"},
        },
        _Z_ROW: {"title": {"text": "Z"}, "zeroline": True},
        _P_ROW: {"title": {"text": "p"}} | _decades([w.p for w in windows if w.p], thresholds.p_threshold),
        _NUMBER_ROW: {"title": {"text": "n / expected"}, "rangemode": "tozero"},
        _PULL_ROW: {"title": {"text": "pull, sigma"}, "zeroline": True},
        _CHANNEL_ROW: {"title": {"text": "channels"}, "rangemode": "tozero"},
    }
    layout: Figure = {
        "height": 140 + 110 * len(rows),
        "xaxis": {
            "anchor": rows[-1][0],
            "type": "date",
            "title": {"text": "end of the data, UTC" if by_data else "judged, UTC"},
        },
        "legend": {"orientation": "h", "y": 1.06},
        "hovermode": "closest",
        "shapes": [
            healthy_band(_Z_ROW),
            *([healthy_band(_PULL_ROW)] if pulled else []),
            _limit(_P_ROW, thresholds.p_threshold),
            *([_line(_NUMBER_ROW, 1.0, "var(--faint)")] if counted else []),
            *(_limit(_PULL_ROW, side * thresholds.largest_pull) for side in (-1, 1) if pulled),
        ],
        "annotations": [
            _note(_Z_ROW, 1.0, HEALTHY_WORDS),
            *([_note(_NUMBER_ROW, 1.0, "reference")] if counted else []),
            *([] if any(w.p is not None for w in windows) else [_note(_P_ROW, 0.0, NO_P_WORDS)]),
            _note(_P_ROW, math.log10(thresholds.p_threshold), f"counts below {thresholds.p_threshold:.2g}"),
            *([_note(_PULL_ROW, thresholds.largest_pull, "warns beyond")] if pulled else []),
        ],
    }
    for row, domain in _stack(rows):
        layout[row.replace("y", "yaxis")] = axes[row] | {"domain": domain}
    return {"data": data, "layout": layout}


def healthy_band(row: str, low: float = -1.0, high: float = 1.0) -> Figure:
    """Shade the range of two of three windows like the reference: one standard deviation.

    Parameters
    ----------
    row : str
        Axis in standard deviations, or in another unit with the borders `low` and `high`.
    """
    place = {"xref": "paper", "x0": 0, "x1": 1, "yref": row, "y0": low, "y1": high}
    look = {"fillcolor": "var(--series-0)", "opacity": 0.15, "line": {"width": 0}, "layer": "below"}
    return {"type": "rect"} | place | look


def _quality_traces(quality: Quality, windows: list[WindowSummary], moment: _Moment) -> Iterable[Figure]:
    """Make the points of four rows; only windows with a p-value have Z and p."""
    known = [w for w in windows if w.p is not None]
    counted = [(w, w.rate) for w in windows if w.rate is not None]
    rows: list[tuple[str, list[WindowSummary], list[float | None]]] = [
        (_QUALITY_ROW, windows, [float(_LEVELS[quality])] * len(windows)),
        (_Z_ROW, known, [w.z for w in known]),
        (_P_ROW, known, [w.p for w in known]),
    ]
    if counted:
        rows.append(
            (_NUMBER_ROW, [w for w, _ in counted], [w.n_data / rate.n_expected for w, rate in counted])
        )
    for row, chosen, values in rows:
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": str(quality),
            "legendgroup": str(quality),
            "showlegend": row == _QUALITY_ROW,
            "yaxis": row,
            "x": [moment(w) for w in chosen],
            "y": values,
            "text": [_number_label(w) if row == _NUMBER_ROW else _label(w) for w in chosen],
            "hovertemplate": "%{text}<extra></extra>",
            "customdata": [_address(w) for w in chosen],
            "marker": {"symbol": _SYMBOLS[quality], "color": f"var(--{quality.lower()})", "size": 8},
        }


def _pull_trace(n: int, name: str, windows: Sequence[WindowSummary], moment: _Moment) -> Figure:
    found = [(w, w.nuisances[name].reference.pull) for w in windows if name in w.nuisances]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "yaxis": _PULL_ROW,
        "x": [moment(w) for w, _ in found],
        "y": [pull for _, pull in found],
        "text": [f"{name}, {_label(w)}" for w, _ in found],
        "hovertemplate": "%{text}: %{y:.2f} sigma<extra></extra>",
        "customdata": [_address(w) for w, _ in found],
        "marker": {"symbol": _PALETTE[n % len(_PALETTE)], "color": f"var(--series-{n % 4})", "size": 7},
    }


def _channel_traces(windows: Sequence[WindowSummary], moment: _Moment) -> Iterable[Figure]:
    """Make the numbers of channels that are dead, low and noisy."""
    found = [(w, w.channels) for w in windows if w.channels is not None]
    for field, (state, symbol, colour) in _CHANNEL_STATES.items() if found else ():
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": f"channels {state}",
            "yaxis": _CHANNEL_ROW,
            "x": [moment(w) for w, _ in found],
            "y": [getattr(channels, field) for _, channels in found],
            "text": [_label(w) for w, _ in found],
            "hovertemplate": f"%{{text}}: %{{y}} {state}<extra></extra>",
            "customdata": [_address(w) for w, _ in found],
            "marker": {"symbol": symbol, "color": colour, "size": 8},
        }


def _decades(values: Sequence[float], threshold: float) -> Figure:
    """Make a logarithmic axis that contains the threshold, with at most six numbers."""
    lowest = math.floor(math.log10(min([*values, threshold])))
    return {
        "type": "log",
        "range": [1.06 * lowest, -0.06 * lowest],  # space for the marks at both ends
        "dtick": math.ceil(-lowest / 5),
        "exponentformat": "power",
    }


def _limit(row: str, value: float) -> Figure:
    """Draw a limit across a row."""
    return _line(row, value, "var(--bad)")


def _line(row: str, value: float, colour: str) -> Figure:
    """Draw a dashed line across a row."""
    line = {"color": colour, "width": 1, "dash": "dash"}
    place = {"xref": "paper", "x0": 0, "x1": 1, "yref": row, "y0": value, "y1": value}
    return {"type": "line", "line": line} | place


def _note(row: str, value: float, text: str) -> Figure:
    """Write a text at the right end of such a line; on a logarithmic axis `value` is the logarithm."""
    return {
        "xref": "paper", "x": 1, "xanchor": "right", "yref": row, "y": value, "yanchor": "bottom",
        "text": text, "showarrow": False, "font": {"color": "var(--faint)", "size": 11},
    }  # fmt: skip


def _stack(rows: Sequence[tuple[str, float]]) -> Iterable[tuple[str, list[float]]]:
    """Divide the height between rows, from the top down, with gaps."""
    gap = 0.04
    unit = (1.0 - gap * (len(rows) - 1)) / sum(height for _, height in rows)
    top = 1.0
    for row, height in rows:
        yield row, [max(0.0, top - unit * height), top]
        top -= unit * height + gap


def _follow_each_other(windows: Sequence[WindowSummary]) -> bool:
    """Tell whether all windows have times, and no two runs have the same, as those of replayed files may."""
    spans: dict[int, tuple[float, float]] = {}
    for window in windows:
        if window.end is None:
            return False
        first, last = spans.get(window.run, (window.end, window.end))
        spans[window.run] = (min(first, window.end), max(last, window.end))
    in_order = sorted(spans.values())
    return all(before[1] <= after[0] for before, after in pairwise(in_order))


def _judged_at(window: WindowSummary) -> str:
    return write_iso(window.judged_at)


def _end_of(window: WindowSummary) -> str:
    return write_iso(window.judged_at if window.end is None else window.end)


def _label(window: WindowSummary) -> str:
    p = "p not known" if window.p is None else describe_p(window.p)
    return f"run {window.run}, window {window.seq}: {window.quality}, {p}"


def _number_label(window: WindowSummary) -> str:
    number = describe_rate(window.n_data, window.rate) if window.rate else "nothing is expected"
    p = describe_p(window.rate.p) if window.rate else ""
    return f"run {window.run}, window {window.seq}: {number}, {p}"


def _address(window: WindowSummary) -> str:
    return f"/windows/{window.stream}/{window.run}/{window.seq}"
