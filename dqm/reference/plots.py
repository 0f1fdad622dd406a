"""Figures and histograms of a window's maps, for notebooks and scripts; needs the extra ``plots``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dqm.errors import InputError
from dqm.events import Explanation, FloatArray, RatioMap, ReferenceCurve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hist import Hist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MapHistograms", "draw_explanation", "map_histograms"]

REFERENCE = "#0072B2"
"""Colour of Okabe and Ito, as the others: the colour-blind can tell them apart."""

FITTED = "#D55E00"
"""Colour of what was fitted."""

WINDOW = "black"
"""Colour of the window."""

CURVES = ("#009E73", "#CC79A7")
"""The same of further curves."""

PANEL_INCHES = (4.2, 3.6)
LARGEST_RATIO = 4.0
"""Largest end of the axis of a ratio; arrows mark points beyond."""

LARGEST_LOG_RATIO = 2.0
"""The same for the colours of a pair, in powers of two."""

LARGEST_SIGNIFICANCE = 5.0
"""The same for their significance, in standard deviations."""


@dataclass(frozen=True, slots=True)
class MapHistograms:
    """One map as histograms of the library ``hist``, which follow the protocol of ``uhi`` for plotting.

    The first and the last bin of an axis also contain everything beyond.

    Parameters
    ----------
    window : Hist
        Events seen; variances are Poisson.
    reference : Hist
        Events expected, with the variances of the reference.
    fitted : Hist
        Events of the reference reweighted by the fitted density ratio; their variances are not known.
    """

    window: Hist[Any]
    reference: Hist[Any]
    fitted: Hist[Any]


@contextmanager
def _extra_plots(library: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{library} is not installed", fix="Install dqm with its extra 'plots': pip install '.[plots]'"
        ) from error


def map_histograms(ratio_map: RatioMap) -> MapHistograms:
    """Make histograms of a map of one feature or of two.

    Raises
    ------
    InputError
        If the library ``hist`` is not installed.
    """
    with _extra_plots("hist"):
        import hist
    axes = [
        hist.axis.Variable(edges, name=name, label=name, underflow=False, overflow=False)
        for name, edges in zip(ratio_map.features, ratio_map.edges, strict=True)
    ]
    window: Hist[Any] = hist.Hist(*axes, storage=hist.storage.Double(), label="window")
    window[...] = ratio_map.data
    reference: Hist[Any] = hist.Hist(*axes, storage=hist.storage.Weight(), label="reference")
    reference[...] = np.stack([ratio_map.reference, ratio_map.reference_error**2], axis=-1)
    fitted: Hist[Any] = hist.Hist(*axes, storage=hist.storage.Double(), label="fitted")
    centers = np.meshgrid(*((edges[1:] + edges[:-1]) / 2 for edges in ratio_map.edges), indexing="ij")
    fitted.fill(*map(np.ravel, centers), weight=ratio_map.fitted.ravel())  # its variances: not known
    return MapHistograms(window, reference, fitted)


def draw_explanation(
    explanation: Explanation,
    title: str,
    *,
    pairs: bool = False,
    figure: Figure | None = None,
    names: tuple[str, str] = ("window", "reference"),
    curves: Sequence[ReferenceCurve] = (),
) -> Figure:
    """Draw the maps of a window.

    Parameters
    ----------
    explanation : Explanation
        What to draw: one panel a feature, in the order of the ranking.
    title : str
        Line above all.
    pairs : bool
        Draw the pairs of features too, below.
    figure : Figure, optional
        Empty figure to draw in; a new one by default, which pyplot does not know of.
    names : tuple of str
        What the events seen and those expected are called.
    curves : sequence of ReferenceCurve
        References to draw beside them.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If matplotlib is not installed.
    """
    with _extra_plots("matplotlib"):
        from matplotlib.figure import Figure
    shares = dict(explanation.ranking)
    maps = sorted(explanation.maps, key=lambda m: -shares.get(m.features[0], 0.0))
    columns = _columns(len(maps))
    rows = _rows(maps, columns)
    pair_rows = _rows(explanation.pairs, columns) if pairs else 0
    if figure is None:
        width, height = PANEL_INCHES
        figure = Figure(figsize=(width * columns, height * (rows + pair_rows) + 0.9))
    figure.set_layout_engine("constrained", h_pad=0.02, hspace=0.0)
    grid = figure.add_gridspec(rows + pair_rows, columns)
    for place, ratio_map in enumerate(maps):
        cell = grid[divmod(place, columns)].subgridspec(2, 1, height_ratios=(5, 2), hspace=0.0)
        top = figure.add_subplot(cell[0])
        (name,) = ratio_map.features
        _draw_feature(top, figure.add_subplot(cell[1], sharex=top), ratio_map, shares.get(name), names)
        for number, curve in enumerate(curves):
            if name in curve.events:
                edges = ratio_map.edges[0]
                color = CURVES[number % len(CURVES)]
                top.stairs(curve.events[name], edges, color=color, ls=":", lw=1.5, label=curve.label)
    for place, ratio_map in enumerate(explanation.pairs if pairs else ()):
        row, column = divmod(place, columns)
        cells = grid[rows + row, column].subgridspec(1, 2)
        left = figure.add_subplot(cells[0])
        _draw_ratio(left, ratio_map)
        _draw_significance(figure.add_subplot(cells[1], sharey=left), ratio_map)
    figure.suptitle(f"{explanation.text}\n{title}", fontsize="medium")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _columns(n: int) -> int:
    return n if n <= 3 else math.ceil(math.sqrt(n))


def _rows(maps: Sequence[RatioMap], columns: int) -> int:
    return math.ceil(len(maps) / columns)


def _draw_feature(top: Axes, bottom: Axes, m: RatioMap, share: float | None, names: tuple[str, str]) -> None:
    """Draw events above and their ratio to the reference below."""
    (edges,), (name,) = m.edges, m.features
    middle = (edges[1:] + edges[:-1]) / 2
    top.stairs(m.reference, edges, color=REFERENCE, lw=1.5, label=names[1])
    _draw_band(top, edges, m.reference, m.reference_error)
    top.stairs(m.fitted, edges, color=FITTED, lw=1.5, ls="--", label="fitted")
    top.errorbar(middle, m.data, np.sqrt(m.data), fmt="o", ms=3.5, lw=1, color=WINDOW, label=names[0])
    top.set_ylim(bottom=0.0)
    top.set_ylabel("events")
    if share is not None:  # channels are not ranked
        top.set_title(f"{name}: {100 * share:.0f} % of the departure", fontsize="medium")
    top.tick_params(labelbottom=False)
    expected = np.where(m.reference > 0, m.reference, np.nan)  # where none is expected there is no ratio
    seen, learned = m.data / expected, m.fitted / expected
    end = float(np.clip(1.15 * np.nanmax(np.concatenate([seen, learned])), 2.0, LARGEST_RATIO))
    bottom.axhline(1.0, color=REFERENCE, lw=1)
    _draw_band(bottom, edges, np.ones_like(expected), m.reference_error / expected)
    bottom.stairs(learned, edges, baseline=None, color=FITTED, lw=1.5, ls="--")
    bottom.errorbar(middle, seen, np.sqrt(m.data) / expected, fmt="o", ms=3, lw=1, color=WINDOW)
    beyond = seen > end
    bottom.plot(middle[beyond], np.full(beyond.sum(), 0.93 * end), "^", ms=5, color=WINDOW)
    bottom.set(ylim=(0.0, end), xlim=(edges[0], edges[-1]), xlabel=name, ylabel="ratio")


def _draw_band(axes: Axes, edges: FloatArray, values: FloatArray, error: FloatArray) -> None:
    """Draw one standard deviation around the reference."""
    low = values - error
    high = values + error
    axes.stairs(high, edges, baseline=low, fill=True, color=REFERENCE, alpha=0.2, lw=0)


def _draw_ratio(axes: Axes, m: RatioMap) -> None:
    """Draw the fitted density ratio, which fades where few events are expected."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio: Any = np.log2(np.where(m.reference > 0, m.fitted / m.reference, np.nan))
    believed = np.abs(log_ratio[np.isfinite(log_ratio) & (m.confidence > 0.5)])
    limit = float(np.clip(believed.max(initial=0.0), 0.25, LARGEST_LOG_RATIO))
    _draw_cells(axes, m, log_ratio, limit, "log2 ratio", alpha=m.confidence.T)
    axes.set_ylabel(m.features[1])


def _draw_significance(axes: Axes, m: RatioMap) -> None:
    """Draw the events seen against those expected."""
    _draw_cells(axes, m, m.significance, LARGEST_SIGNIFICANCE, "significance (sigma)")


def _draw_cells(
    axes: Axes, m: RatioMap, values: FloatArray, limit: float, label: str, alpha: Any = None
) -> None:
    """Draw cells in colours, symmetric about no departure."""
    from matplotlib.cm import ScalarMappable

    mesh = axes.pcolormesh(*m.edges, values.T, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=alpha)
    axes.set_facecolor("0.92")  # shows where the reference has no events, or few
    axes.set_xlabel(m.features[0])
    solid = ScalarMappable(mesh.norm, mesh.cmap)  # the scale itself does not fade
    axes.figure.colorbar(solid, ax=axes, label=label, location="top", pad=0.02)
