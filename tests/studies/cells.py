"""What the cells of a large reference cost in accuracy, and save in time, by their number.

``python -m tests.studies.cells FOLDER`` fits simulated windows against 200 000 events: with all of them, with
cells whatever these give ("alone"), and as the test does, which checks the cells (`dqm.nplm.single_fit`). It
prints the largest relative difference of t from the fit with all events, and the median of the processor time
over that of the same window at N_R = 2000, and draws both into FOLDER.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from dqm.events import FloatArray
from dqm.nplm.cells import CELL_ERROR
from tests.benchmarks.inputs import SETTINGS, Setting
from tests.studies.large_reference import FAULTS, N_LARGE, N_SMALL, make_test, timed
from tests.studies.simulated_faults import CONDITIONS, events

NUMBERS = (500, 1000, 2000, 4000, 8000)
N_WINDOWS = 12
HEALTHY, FAULTY = "healthy", "faulty"
TICKS = (1, 2, 5, 10, 20, 50)
GOAL = 1e-3
"""Relative difference of t that the test may have."""


@dataclass(frozen=True)
class Point:
    """What one number of cells gives for one kind of windows.

    Parameters
    ----------
    n_cells : int
        0: all events.
    kind : str
        HEALTHY or FAULTY.
    is_checked : bool
        Whether the fit checks the cells.
    difference : float
        Largest relative difference of t.
    ratio : float
        Median time over that with the small reference.
    """

    n_cells: int
    kind: str
    is_checked: bool
    difference: float
    ratio: float


@contextmanager
def dividing(n_cells: int) -> Iterator[None]:
    """References that are set up here have so many cells; 0: none."""
    least = N_LARGE + 1 if n_cells == 0 else 0
    with (
        patch("dqm.nplm.cells.LEAST_EVENTS", least),
        patch("dqm.nplm.cells.FEWEST_CELLS", n_cells),
        patch("dqm.nplm.cells.CELL_ERROR", math.inf),
        patch("dqm.nplm.cells.LARGEST_CELL_ERROR", math.inf),
    ):
        yield


def measure(setting: Setting) -> Iterator[Point]:
    """Yield a point for each number of cells, kind of windows, and with and without the check."""
    samples = {
        HEALTHY: [events(CONDITIONS[HEALTHY], setting.n_data, [98, k]) for k in range(N_WINDOWS)],
        FAULTY: [
            events(CONDITIONS[FAULTS[k % len(FAULTS)]], setting.n_data, [97, k]) for k in range(N_WINDOWS)
        ],
    }
    small = make_test(setting, N_SMALL)
    usual = {kind: [timed(small, x)[1] for x in windows] for kind, windows in samples.items()}
    true: dict[str, FloatArray] = {}
    for n_cells in (0, *NUMBERS):
        with dividing(n_cells):
            test = make_test(setting, N_LARGE)
        for is_checked in (True,) if n_cells == 0 else (False, True):
            with patch("dqm.nplm.single_fit.CELL_ERROR", CELL_ERROR if is_checked else math.inf):
                for kind, windows in samples.items():
                    t, seconds = np.array([timed(test, x) for x in windows]).T
                    difference = np.abs(t - true.setdefault(kind, t)) / np.maximum(1.0, np.abs(true[kind]))
                    ratio = float(np.median(seconds / usual[kind]))
                    yield Point(n_cells, kind, is_checked, float(difference.max()), ratio)


def draw(found: dict[str, list[Point]], path: Path) -> None:
    """Draw difference against time, a panel for each configuration."""
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for panel, (name, points) in zip(panels, found.items(), strict=True):
        for colour, kind in ((f"C{place}", kind) for place, kind in enumerate((HEALTHY, FAULTY))):
            for is_checked in (False, True):
                mine = [p for p in points if p.n_cells and (p.kind, p.is_checked) == (kind, is_checked)]
                label = f"{kind}, {'with check' if is_checked else 'cells alone'}"
                style = "o-" if is_checked else "o:"
                x, y = [p.ratio for p in mine], [p.difference for p in mine]
                panel.plot(x, y, style, color=colour, label=label, mfc=colour if is_checked else "white")
                for p in mine:
                    if is_checked:
                        at = (p.ratio, p.difference)
                        panel.annotate(f" {p.n_cells}", at, color=colour, fontsize=8, va="bottom")
            whole = next(p.ratio for p in points if p.n_cells == 0 and p.kind == kind)
            panel.axvline(whole, color=colour, linewidth=0.8, label=f"{kind}, all events")
        panel.axhline(GOAL, color="0.6", linewidth=0.8)
        panel.set(xscale="log", yscale="log", title=name, xlabel="time of a window over that at N_R = 2000")
        panel.set_xticks(TICKS, map(str, TICKS))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("largest relative difference of t")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print a row for each number of cells, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found: dict[str, list[Point]] = {name: [] for name in SETTINGS}
    for name, setting in SETTINGS.items():
        for p in measure(setting):
            found[name].append(p)
            cells = f"{p.n_cells} cells" if p.n_cells else "all events"
            check = "with check" if p.is_checked else "alone"
            sys.stdout.write(f"{name}, {cells}, {p.kind}, {check}: {p.difference:.1e}, {p.ratio:.1f}\n")
            sys.stdout.flush()
    draw(found, folder / "cells.png")


if __name__ == "__main__":
    main()
