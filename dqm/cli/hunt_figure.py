"""The figure of a hunt: p along the coordinate, the best window, and what was selected there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dqm.cli.figures import COLORS, panels_of
from dqm.service.offline.hunting import HuntOutcome

__all__ = ["draw_hunt"]


def draw_hunt(path: Path, found: HuntOutcome) -> None:
    """Draw a hunt.

    Parameters
    ----------
    path : Path
        File to write; its suffix says what kind.
    found : HuntOutcome
        What to draw.

    Raises
    ------
    FileError
        If matplotlib is missing or the file cannot be written.
    """
    with panels_of(path, 2 + len(found.explanation.maps)) as panels:
        _draw_p(panels[0], found)
        _draw_bins(panels[1], found)
        for panel, one in zip(panels[2:], found.explanation.maps, strict=False):
            (edges,) = one.edges
            for values, color, label in (
                (one.data, COLORS[5], "selected in the window"),
                (one.reference, "0.6", "sidebands, scaled"),
                (one.fitted, COLORS[0], "learned excess"),
            ):
                panel.stairs(values, edges, color=color, label=label)
            panel.set(xlabel=one.features[0], ylabel="events")
        panels[2].legend(fontsize="small")
        panels[0].figure.suptitle(f"hunt along {found.along}: p = {found.p:.3g}")


def _draw_p(panel: Any, found: HuntOutcome) -> None:
    """Draw the smallest p of each window as a bar over its range; those that stand out in colour."""
    leading = [found.windows[place] for place in found.leading]
    for one in found.windows:
        panel.hlines(one.leading.p, one.low, one.high, color="0.7", lw=1)
    for one in leading:
        panel.hlines(one.leading.p, one.low, one.high, color=COLORS[5], lw=3)
    panel.set(yscale="log", xlabel=found.along, ylabel="p of one window")


def _draw_bins(panel: Any, found: HuntOutcome) -> None:
    """Draw the share of selected events in the bins of the best window, and the parabola of its sidebands."""
    best = found.best
    middles = np.array([0.5 * (one.low + one.high) for one in found.bins])
    n_events = np.array([one.n_events for one in found.bins], dtype=np.float64)
    shares = np.array([one.n_selected for one in found.bins]) / n_events
    beside = (middles < best.low) | (middles > best.high)
    errors = np.sqrt(np.maximum(shares, 1.0 / n_events) / n_events)
    panel.errorbar(middles, shares, errors, fmt=".", color=COLORS[0])
    if beside.sum() > 3:
        center = middles.mean()
        width = np.ptp(middles)
        line = np.polyfit((middles[beside] - center) / width, shares[beside], 2, w=np.sqrt(n_events[beside]))
        panel.plot(middles, np.polyval(line, (middles - center) / width), color="0.5")
    panel.axvspan(best.low, best.high, color=COLORS[1], alpha=0.3)
    panel.set(xlabel=found.along, ylabel=f"share selected ({best.leading.share:.1%} of all)", ylim=(0, None))
