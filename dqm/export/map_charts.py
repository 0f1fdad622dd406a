"""Figures of maps for plotly.js: spectra, density ratios, and occupancy of channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dqm.events import Explanation, FloatArray, RatioMap, ReferenceCurve
from dqm.export.charts import Figure

__all__ = ["MapWords", "maps", "occupancy", "pair_maps"]


@dataclass(frozen=True, slots=True)
class MapWords:
    """What maps call their curves.

    Parameters
    ----------
    seen : str
        Events in question.
    expected : str
        Events that they are compared with.
    learned : str
        The latter, weighted by the learned density ratio.
    """

    seen: str = "window"
    expected: str = "reference"
    learned: str = "learned"


OF_WINDOW = MapWords()


def maps(
    explanation: Explanation, words: MapWords = OF_WINDOW, curves: Sequence[ReferenceCurve] = ()
) -> list[Figure]:
    """Spectra and density ratio of each feature, the most important first.

    Parameters
    ----------
    explanation : Explanation
        Its maps are drawn.
    words : MapWords
        What the curves are called.
    curves : sequence of ReferenceCurve
        Further curves.
    """
    order = [name for name, _ in explanation.ranking]
    ranked = sorted(
        explanation.maps, key=lambda m: order.index(m.features[0]) if m.features[0] in order else 99
    )
    return [_map_1d(ratio, words, curves) for ratio in ranked]


def pair_maps(pairs: Iterable[RatioMap], words: MapWords = OF_WINDOW) -> list[Figure]:
    """Density ratio of each pair of features, followed by how significant it is; `words` as in `maps`."""
    return [draw(ratio, words) for ratio in pairs for draw in (_ratio_map, _significance_map)]


def occupancy(ratio: RatioMap) -> list[Figure]:
    """Hits of every wire: window, reference, and the ratio of both; ``layout.meta`` is the title.

    A wire without expected hits has a cross: it is masked, or the reference does not have it.
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
    """Draw one number for each wire, with the same text under the mouse in all maps."""
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


def _map_1d(ratio: RatioMap, words: MapWords, curves: Sequence[ReferenceCurve]) -> Figure:
    (name,), (edges,) = ratio.features, ratio.edges
    reference = ratio.reference
    error = ratio.reference_error
    data = ratio.data
    fitted = ratio.fitted
    centres = (edges[:-1] + edges[1:]) / 2.0
    known = np.where(reference > 0, reference, np.nan)  # without reference there is no ratio
    learned = fitted / known
    spread = fitted * error / known**2
    seen = data / known
    seen_error = np.sqrt(data) / known
    points = {"type": "scatter", "mode": "markers", "x": centres.tolist()}
    dots = {"color": "var(--ink)", "size": 5}
    return {
        "data": [
            _band(words.expected, edges, reference, error, "y", "var(--series-0)"),
            _step(words.expected, edges, reference, "y", "var(--series-0)", "solid"),
            *(
                _step(curve.label, edges, curve.events[name], "y", f"var(--series-{2 + place % 2})", "dot")
                for place, curve in enumerate(curves)
                if name in curve.events
            ),
            _step(words.learned, edges, fitted, "y", "var(--series-1)", "dash"),
            points
            | {"name": words.seen, "y": data.tolist(), "error_y": _bars(np.sqrt(data)), "marker": dots},
            _band("learned ratio", edges, learned, spread, "y2", "var(--series-1)"),
            _step("learned ratio", edges, learned, "y2", "var(--series-1)", "dash"),
            points
            | {
                "name": f"{words.seen} / {words.expected}",
                "y": _plain(seen),
                "error_y": _bars(seen_error),
                "marker": dots,
                "yaxis": "y2",
                "showlegend": False,
            },
        ],
        "layout": {
            "height": 350 if curves else 330,
            "xaxis": {"anchor": "y2", "title": {"text": name}},
            "yaxis": {"domain": [0.42, 1.0], "title": {"text": "events"}, "rangemode": "tozero"},
            "yaxis2": {"domain": [0.0, 0.36], "title": {"text": "ratio"}, "zeroline": False},
            "shapes": [
                {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": 1, "y1": 1,
                 "line": {"color": "var(--faint)", "width": 1}}
            ],
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
            "margin": {"t": 56 if curves else 36},  # room for the legend
        },
    }  # fmt: skip


def _ratio_map(ratio: RatioMap, words: MapWords) -> Figure:
    """Density ratio, which fades where few events are expected: it is uncertain there, and often large."""
    reference = ratio.reference
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.where(reference > 0, np.log2(ratio.fitted / reference), np.nan)
    believed = np.abs(log_ratio[np.isfinite(log_ratio) & (ratio.confidence > 0.5)])
    limit = float(np.clip(believed.max(initial=0.25), 0.25, 4.0))
    log_ratio = np.clip(log_ratio, -limit, limit)  # a cell without events has the ratio 0
    figure = _pair(ratio, log_ratio, limit, "log2 ratio", words)
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


def _significance_map(ratio: RatioMap, words: MapWords) -> Figure:
    """Seen against expected in standard deviations; five of them have the full colour."""
    return _pair(ratio, np.clip(ratio.significance, -5.0, 5.0), 5.0, "sigma", words)


def _pair(ratio: RatioMap, values: FloatArray, limit: float, unit: str, words: MapWords) -> Figure:
    first, second = ratio.features
    seen, expected = (
        ("seen", "expected") if words is OF_WINDOW else (f"of {words.seen}", f"of {words.expected}")
    )
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
                    f"%{{customdata[0]:.0f}} {seen}, %{{customdata[1]:.1f}} {expected} "
                    "(%{customdata[3]:+.1f} sigma), "
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
