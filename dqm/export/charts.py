"""Figures for plotly.js: plain dictionaries; colours are variables of the style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dqm.alarm import Thresholds, describe_p, describe_rate
from dqm.events import Explanation, FloatArray, Quality, RatioMap
from dqm.events.summary import WindowSummary
from dqm.export.words import write_iso

__all__ = ["Figure", "history", "maps", "occupancy", "pair_maps"]

Figure = dict[str, Any]

_SYMBOLS = {
    Quality.NULL: "circle-open",
    Quality.GOOD: "circle",
    Quality.MEDIUM: "triangle-up",
    Quality.BAD: "square",
}
_LEVELS = {Quality.NULL: 0, Quality.GOOD: 1, Quality.MEDIUM: 2, Quality.BAD: 3}
_PALETTE = ("circle", "diamond", "cross", "x", "star", "hexagon")
_QUALITY_ROW, _Z_ROW, _P_ROW, _PULL_ROW, _NUMBER_ROW, _CHANNEL_ROW = "y", "y2", "y3", "y4", "y5", "y6"
_CHANNEL_STATES = {
    "n_dead": ("dead", "x", "var(--bad)"),
    "n_low": ("low", "triangle-down", "var(--series-0)"),
    "n_noisy": ("noisy", "triangle-up", "var(--medium)"),
}
"""Field of the summary: word, symbol and colour; none has the colour of Good."""


def history(windows: Sequence[WindowSummary], thresholds: Thresholds) -> Figure:
    """Quality, Z, p, number and pulls of windows over time, with the limits beyond which windows count.

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
    data = [
        *(
            trace
            for quality in Quality
            for trace in _quality_traces(quality, [w for w in windows if w.quality is quality])
        ),
        *(_pull_trace(n, name, windows) for n, name in enumerate(pulled)),
        *_channel_traces(windows),
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
        "xaxis": {"anchor": rows[-1][0], "type": "date", "title": {"text": "judged, UTC"}},
        "legend": {"orientation": "h", "y": 1.06},
        "hovermode": "closest",
        "shapes": [
            _limit(_P_ROW, thresholds.p_threshold),
            *([_line(_NUMBER_ROW, 1.0, "var(--faint)")] if counted else []),
            *(_limit(_PULL_ROW, side * thresholds.largest_pull) for side in (-1, 1) if pulled),
        ],
        "annotations": [
            _note(_P_ROW, math.log10(thresholds.p_threshold), f"counts below {thresholds.p_threshold:.2g}"),
            *([_note(_PULL_ROW, thresholds.largest_pull, "warns beyond")] if pulled else []),
        ],
    }
    for row, domain in _stack(rows):
        layout[row.replace("y", "yaxis")] = axes[row] | {"domain": domain}
    return {"data": data, "layout": layout}


def maps(explanation: Explanation) -> list[Figure]:
    """Spectra and density ratio of each feature, the most important first."""
    order = [name for name, _ in explanation.ranking]
    ranked = sorted(
        explanation.maps, key=lambda m: order.index(m.features[0]) if m.features[0] in order else 99
    )
    return [_map_1d(ratio) for ratio in ranked]


def pair_maps(pairs: Iterable[RatioMap]) -> list[Figure]:
    """Density ratio of each pair of features, followed by how significant it is."""
    return [draw(ratio) for ratio in pairs for draw in (_ratio_map, _significance_map)]


def occupancy(ratio: RatioMap) -> list[Figure]:
    """Hits of every wire: window, reference, and the ratio of both; ``layout.meta`` is the title.

    A wire of which nothing is expected has a cross: it is masked, or the reference does not have it.
    """
    counts = ratio.reference > 0
    most = float(max(np.quantile(ratio.data, 0.98), ratio.reference.max(), 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(counts, ratio.data / ratio.reference, np.nan)
    seen, expected = (np.where(counts, values, np.nan) for values in (ratio.data, ratio.reference))
    grey = [[0, "var(--raised)"], [1, "var(--ink)"]]
    two_sided = [[0, "var(--less)"], [0.5, "var(--same)"], [1, "var(--more)"]]
    return [
        _cells(ratio, seen, "hits of the window", {"zmin": 0, "zmax": most, "colorscale": grey}),
        _cells(ratio, expected, "hits expected", {"zmin": 0, "zmax": most, "colorscale": grey}),
        _cells(ratio, share, "window / reference", {"zmin": 0, "zmax": 2, "colorscale": two_sided}),
    ]


def _cells(ratio: RatioMap, values: FloatArray, title: str, colours: Figure) -> Figure:
    """Draw one number for each wire, with the same words wherever the mouse is."""
    wire, layer = ratio.features
    x, y = ((edges[:-1] + edges[1:]) / 2.0 for edges in ratio.edges)
    across, up = np.nonzero(np.isnan(values))
    return {
        "data": [
            {
                "type": "heatmap",
                "x": x.tolist(),
                "y": y.tolist(),
                "z": _plain(values.T),
                "xgap": 1,
                "ygap": 1,
                "customdata": np.stack([ratio.data.T, ratio.reference.T], axis=-1).tolist(),
                "hovertemplate": (
                    f"{wire} %{{x}}, {layer} %{{y}}: %{{customdata[0]:.0f}} seen, "
                    "%{customdata[1]:.1f} expected<extra></extra>"
                ),
                "colorbar": {"thickness": 10, "len": 0.9},
                **colours,
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": x[across].tolist(),
                "y": y[up].tolist(),
                "hovertemplate": f"{wire} %{{x}}, {layer} %{{y}}: does not count<extra></extra>",
                "marker": {"symbol": "x", "size": 8, "color": "var(--faint)"},
            },
        ],
        "layout": {
            "height": 260,
            "showlegend": False,
            "meta": title,
            "plot_bgcolor": "var(--panel)",
            "xaxis": {"title": {"text": wire}, "dtick": max(1, len(ratio.edges[0]) // 16)},
            "yaxis": {"title": {"text": layer}, "dtick": max(1, len(ratio.edges[1]) // 16)},
        },
    }


def _quality_traces(quality: Quality, windows: list[WindowSummary]) -> Iterable[Figure]:
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
            "x": [_moment(w) for w in chosen],
            "y": values,
            "text": [_number_label(w) if row == _NUMBER_ROW else _label(w) for w in chosen],
            "hovertemplate": "%{text}<extra></extra>",
            "customdata": [_address(w) for w in chosen],
            "marker": {"symbol": _SYMBOLS[quality], "color": f"var(--{quality.lower()})", "size": 8},
        }


def _pull_trace(n: int, name: str, windows: Sequence[WindowSummary]) -> Figure:
    found = [(w, w.nuisances[name].reference.pull) for w in windows if name in w.nuisances]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "yaxis": _PULL_ROW,
        "x": [_moment(w) for w, _ in found],
        "y": [pull for _, pull in found],
        "text": [f"{name}, {_label(w)}" for w, _ in found],
        "hovertemplate": "%{text}: %{y:.2f} sigma<extra></extra>",
        "customdata": [_address(w) for w, _ in found],
        "marker": {"symbol": _PALETTE[n % len(_PALETTE)], "color": f"var(--series-{n % 4})", "size": 7},
    }


def _channel_traces(windows: Sequence[WindowSummary]) -> Iterable[Figure]:
    """Make the numbers of channels that are dead, low and noisy."""
    found = [(w, w.channels) for w in windows if w.channels is not None]
    for field, (state, symbol, colour) in _CHANNEL_STATES.items() if found else ():
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": f"channels {state}",
            "yaxis": _CHANNEL_ROW,
            "x": [_moment(w) for w, _ in found],
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
    """Write a text on such a line; on a logarithmic axis `value` is the logarithm."""
    return {
        "xref": "paper", "x": 0, "xanchor": "left", "yref": row, "y": value, "yanchor": "bottom",
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


def _map_1d(ratio: RatioMap) -> Figure:
    (edges,) = ratio.edges
    reference, error, data, fitted = ratio.reference, ratio.reference_error, ratio.data, ratio.fitted
    centres = (edges[:-1] + edges[1:]) / 2.0
    known = np.where(reference > 0, reference, np.nan)  # without reference there is no ratio
    learned, spread = fitted / known, fitted * error / known**2
    seen, seen_error = data / known, np.sqrt(data) / known
    points = {"type": "scatter", "mode": "markers", "x": centres.tolist()}
    dots = {"color": "var(--ink)", "size": 5}
    return {
        "data": [
            _band("reference", edges, reference, error, "y", "var(--series-0)"),
            _step("reference", edges, reference, "y", "var(--series-0)", "solid"),
            _step("learned", edges, fitted, "y", "var(--series-1)", "dash"),
            points | {"name": "window", "y": data.tolist(), "error_y": _bars(np.sqrt(data)), "marker": dots},
            _band("learned ratio", edges, learned, spread, "y2", "var(--series-1)"),
            _step("learned ratio", edges, learned, "y2", "var(--series-1)", "dash"),
            points
            | {
                "name": "window / reference",
                "y": _plain(seen),
                "error_y": _bars(seen_error),
                "marker": dots,
                "yaxis": "y2",
                "showlegend": False,
            },
        ],
        "layout": {
            "height": 330,
            "xaxis": {"anchor": "y2", "title": {"text": ratio.features[0]}},
            "yaxis": {"domain": [0.42, 1.0], "title": {"text": "events"}, "rangemode": "tozero"},
            "yaxis2": {"domain": [0.0, 0.36], "title": {"text": "ratio"}, "zeroline": False},
            "shapes": [
                {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": 1, "y1": 1,
                 "line": {"color": "var(--faint)", "width": 1}}
            ],
            "legend": {"orientation": "h", "y": 1.12, "x": 0},
        },
    }  # fmt: skip


def _ratio_map(ratio: RatioMap) -> Figure:
    """Density ratio, which fades where few events are expected: it is uncertain there, and often large."""
    reference = ratio.reference
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.where(reference > 0, np.log2(ratio.fitted / reference), np.nan)
    believed = np.abs(log_ratio[np.isfinite(log_ratio) & (ratio.confidence > 0.5)])
    limit = float(np.clip(believed.max(initial=0.25), 0.25, 4.0))
    log_ratio = np.clip(log_ratio, -limit, limit)  # a cell without events has the ratio 0
    figure = _pair(ratio, log_ratio, limit, "log2 ratio")
    veil = {
        "type": "heatmap",
        "x": ratio.edges[0].tolist(),
        "y": ratio.edges[1].tolist(),
        "z": _plain(1.0 - ratio.confidence.T),
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "var(--raised-clear)"], [1, "var(--raised)"]],
        "showscale": False,
        "hoverinfo": "skip",
    }
    figure["data"].append(veil)
    return figure


def _significance_map(ratio: RatioMap) -> Figure:
    """Seen against expected in standard deviations; five of them have the full colour."""
    return _pair(ratio, np.clip(ratio.significance, -5.0, 5.0), 5.0, "sigma")


def _pair(ratio: RatioMap, values: FloatArray, limit: float, unit: str) -> Figure:
    first, second = ratio.features
    cells = [ratio.data.T, ratio.reference.T, ratio.fitted.T, np.nan_to_num(ratio.significance.T)]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": ratio.edges[0].tolist(),
                "y": ratio.edges[1].tolist(),
                "z": _plain(values.T),
                "customdata": np.stack(cells, axis=-1).tolist(),
                "hovertemplate": (
                    "%{customdata[0]:.0f} seen, %{customdata[1]:.1f} expected (%{customdata[3]:+.1f} sigma), "
                    "%{customdata[2]:.1f} learned<extra></extra>"
                ),
                "zmin": -limit,
                "zmax": limit,
                "colorscale": [[0, "var(--less)"], [0.5, "var(--same)"], [1, "var(--more)"]],
                "colorbar": {"title": {"text": unit}, "thickness": 10, "len": 0.9},
            }
        ],
        "layout": {
            "height": 300,
            "showlegend": False,
            "plot_bgcolor": "var(--raised)",
            "meta": unit,
            "xaxis": {"title": {"text": first}},
            "yaxis": {"title": {"text": second}},
        },
    }


def _step(name: str, edges: FloatArray, values: FloatArray, row: str, colour: str, dash: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": edges.tolist(),
        "y": [*_plain(values), _plain(values)[-1]],
        "yaxis": row,
        "showlegend": row == "y",
        "hoverinfo": "skip" if row == "y" else "y",
        "line": {"shape": "hv", "color": colour, "dash": dash, "width": 2},
    }


def _band(
    name: str, edges: FloatArray, values: FloatArray, error: FloatArray, row: str, colour: str
) -> Figure:
    """One-sigma band around a step line, drawn as one closed outline."""
    low, high = (np.where(np.isfinite(values), values + sign * error, 1.0) for sign in (-1.0, 1.0))
    x = np.repeat(edges, 2)[1:-1]
    outline = np.concatenate([np.repeat(high, 2), np.repeat(low, 2)[::-1]])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{name}, one sigma",
        "x": [*x.tolist(), *x[::-1].tolist()],
        "y": outline.tolist(),
        "yaxis": row,
        "fill": "toself",
        "fillcolor": colour,
        "opacity": 0.25,
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _bars(error: FloatArray) -> Figure:
    return {"type": "data", "array": _plain(error), "color": "var(--ink)", "thickness": 1, "width": 2}


def _plain(values: FloatArray) -> list[Any]:
    """Make lists; values that are not finite become null."""
    return np.where(np.isfinite(values), values, None).tolist()  # type: ignore[call-overload,no-any-return]


def _moment(window: WindowSummary) -> str:
    return write_iso(window.judged_at)


def _label(window: WindowSummary) -> str:
    p = "p not known" if window.p is None else describe_p(window.p)
    return f"run {window.run}, window {window.seq}: {window.quality}, {p}"


def _number_label(window: WindowSummary) -> str:
    number = describe_rate(window.n_data, window.rate) if window.rate else "nothing is expected"
    p = describe_p(window.rate.p) if window.rate else ""
    return f"run {window.run}, window {window.seq}: {number}, {p}"


def _address(window: WindowSummary) -> str:
    return f"/windows/{window.stream}/{window.run}/{window.seq}"
