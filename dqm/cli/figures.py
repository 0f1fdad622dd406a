"""Figures of commands, drawn with matplotlib if it is installed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dqm.cli.output import writing_file
from dqm.errors import FileError
from dqm.events import Explanation, FloatArray, Quality, ReferenceCurve, Verdict, WindowCut
from dqm.export.flags import UNKNOWN, Flag
from dqm.reference import Check, DetectionTime, Tuning, Validation, ValidationPoint, advise_window
from dqm.reference.plots import draw_explanation
from dqm.reference.splits import LARGEST_OFFSET, TOLERATED_OFFSET
from dqm.service.offline.power_study import PowerRow
from dqm.service.offline.run_advice import Advice

if TYPE_CHECKING:
    from dqm.nplm.neural import ClippingChoice

__all__ = [
    "check_figure",
    "draw_advice",
    "draw_checks",
    "draw_clipping",
    "draw_flags",
    "draw_maps",
    "draw_power",
    "draw_tuning",
    "draw_validation",
    "draw_windows",
    "panels_of",
]

SUFFIXES = (".pdf", ".png", ".svg")
"""Endings of figures; they say what kind of file it is."""

COLUMNS = 3
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Colours of Okabe and Ito, which people with colour blindness can tell apart."""


QUALITY_MARKS = {
    Quality.NULL: ("0.6", "x"),
    Quality.GOOD: ("#009E73", "o"),
    Quality.MEDIUM: ("#E69F00", "^"),
    Quality.BAD: ("#D55E00", "s"),
}
"""Colour and shape of each quality, the better first."""

ONE_SIGMA = (0.159, 0.841)
"""Ends of the range of p that has two of three windows like the reference."""

USUAL = "like the reference"

BAR_HEIGHTS = {Quality.GOOD: 0.3, Quality.MEDIUM: 0.55, Quality.BAD: 0.8}
"""Height of a bar as a share of its row."""

DAY_SECONDS = 86_400.0
"""Matplotlib counts days since the epoch of Unix."""


@contextmanager
def panels_of(path: Path, n: int) -> Iterator[list[Any]]:
    """Give `n` panels, and write them to the file afterwards; raises `FileError`."""
    check_figure(path)
    from matplotlib.figure import Figure

    columns = min(n, COLUMNS)
    rows = -(-n // columns)
    figure = Figure(figsize=(4.5 * columns, 3.4 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in panels[n:]:
        spare.set_axis_off()
    yield panels
    _save(path, figure)


def _save(path: Path, figure: Any) -> None:
    with writing_file(path) as scratch:
        figure.savefig(scratch, format=path.suffix[1:].lower())


def check_figure(path: Path | None, others: Sequence[str] = ()) -> None:
    """Refuse a file that cannot become a figure, before the work is done; raises `FileError`.

    `others` are further endings that the command takes.
    """
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise FileError(
            f"no figure has the ending {path.suffix!r}",
            where=str(path),
            fix=f"Choose one of {', '.join((*SUFFIXES, *others))}",
        )
    if not path.parent.is_dir():
        raise FileError("its directory does not exist", where=str(path), fix=f"mkdir -p {path.parent}")
    if find_spec("matplotlib") is None:
        raise FileError(
            "no figure without matplotlib",
            where=str(path),
            fix="pip install '.[plots]', or leave --plot out",
        )


def draw_checks(path: Path, title: str, features: Sequence[str], checks: Sequence[Check]) -> None:
    """Draw learned (lines) over binned log ratio (points) in every feature.

    Parameters
    ----------
    path : Path
        File to write; its suffix says what kind.
    title : str
        Name of the nuisance parameter.
    features : sequence of str
        Names of the features.
    checks : sequence of Check
        The model at several nu.

    Raises
    ------
    FileError
        If matplotlib is missing or the file cannot be written.
    """
    with panels_of(path, len(features)) as panels:
        for feature, (panel, name) in enumerate(zip(panels, features, strict=False)):
            for k, check in enumerate(checks):
                ratio = check.ratios[feature]
                color = COLORS[k % len(COLORS)]
                middle = (ratio.edges[1:] + ratio.edges[:-1]) / 2
                panel.errorbar(middle, ratio.binned, ratio.difference_error, fmt=".", color=color)
                panel.plot(middle, ratio.reconstructed, color=color, label=f"{check.nu:+g}")
            panel.set(xlabel=name, ylabel="log r")
        panels[0].legend(title=title, fontsize="small")


def draw_advice(path: Path, advice: Advice, n_events: int, cut: WindowCut) -> None:
    """Draw how uncertain p is over the size of windows, and how soon each fault is seen.

    Parameters
    ----------
    path : Path
        File to write; its suffix says what kind.
    advice : Advice
        What to draw.
    n_events : int
        Events of the run.
    cut : WindowCut
        What closes the windows.

    Raises
    ------
    FileError
        If matplotlib is missing or the file cannot be written.
    """
    sizes = np.geomspace(10, max(100, n_events), 60)
    curve = [advise_window(n_events, float(round(size)), cut, 0.01).uncertainty for size in sizes]
    with panels_of(path, 2 if advice.detections else 1) as panels:
        panels[0].plot(sizes, curve, color=COLORS[0], label=f"a run of {n_events} events")
        for one in advice.windows:
            color = {"green": COLORS[2], "amber": COLORS[1], "red": COLORS[5]}[one.light]
            height = min(one.uncertainty, LARGEST_OFFSET)
            panels[0].plot(one.n_expected, height, "o", color=color)
        panels[0].axhline(TOLERATED_OFFSET, ls="--", color="0.5", label="tolerated")
        panels[0].axhline(LARGEST_OFFSET, ls=":", color="0.5", label="refused above")
        panels[0].set(
            xscale="log", xlabel="events of a window", ylabel="p uncertain by, sigma", ylim=(0, 0.6)
        )
        panels[0].legend(fontsize="small")
        if advice.detections:
            _draw_times(panels[1], advice.detections)


def draw_maps(
    path: Path,
    maps: Explanation,
    title: str,
    names: tuple[str, str] = ("window", "reference"),
    curves: Sequence[ReferenceCurve] = (),
) -> None:
    """Draw the maps of events over a reference.

    Parameters
    ----------
    path : Path
        File to write; its suffix says what kind.
    maps : Explanation
        What to draw.
    title : str
        Line above all.
    names, curves
        As in `draw_explanation`.

    Raises
    ------
    FileError
        If matplotlib is missing or the file cannot be written.
    """
    check_figure(path)
    _save(path, draw_explanation(maps, title, pairs=True, names=names, curves=curves))


def draw_windows(
    path: Path, title: str, verdicts: Sequence[Verdict], usual_t: FloatArray | None = None
) -> None:
    """Draw the windows of a stream: p, t, and the number of events beside the number expected.

    A band in each panel has two of three windows like the reference.

    Parameters
    ----------
    path : Path
        File to write; its suffix says what kind.
    title : str
        Title of the figure.
    verdicts : sequence of Verdict
        In the order of time, at least one.
    usual_t : ndarray, shape (n, 2), optional
        Ends of that band of t for each window, as its reference has it; NaN where it is not known.

    Raises
    ------
    FileError
        If matplotlib is missing or the file cannot be written.
    """
    rows = {
        "p": [verdict.result.p for verdict in verdicts],
        "t": [verdict.result.t for verdict in verdicts],
        "events / expected": [
            verdict.result.n_data / verdict.result.n_expected if verdict.result.n_expected > 0 else None
            for verdict in verdicts
        ],
    }
    seq = np.array([verdict.window.seq for verdict in verdicts])
    qualities = np.array([str(verdict.quality) for verdict in verdicts])
    with panels_of(path, len(rows)) as panels:
        for panel, (name, values) in zip(panels, rows.items(), strict=True):
            y = np.array(values, dtype=np.float64)  # None, of a window that was not tested, becomes NaN
            for quality, (color, marker) in QUALITY_MARKS.items():
                chosen = qualities == quality
                label = f"{quality}: {chosen.sum()}"
                panel.plot(seq[chosen], y[chosen], marker, color=color, ms=4, label=label)
            panel.set(xlabel="window of the run", ylabel=name)
        expected = np.array([max(verdict.result.n_expected, 1.0) for verdict in verdicts])
        share = 1.0 / np.sqrt(expected)
        bands = [np.tile(ONE_SIGMA, (len(seq), 1)), usual_t, np.column_stack([1.0 - share, 1.0 + share])]
        for panel, band in zip(panels, bands, strict=True):
            if band is not None and np.isfinite(band).any():
                panel.fill_between(seq, *band.T, step="mid", color=COLORS[0], alpha=0.15, lw=0, label=USUAL)
            panel.xaxis.get_major_locator().set_params(integer=True)
        panels[0].set_yscale("log")
        panels[2].axhline(1.0, color="0.6", lw=1)
        figure = panels[0].figure
        names = dict(zip(*panels[0].get_legend_handles_labels()[::-1], strict=True))
        figure.legend(names.values(), names.keys(), loc="outside lower center", ncols=5, frameon=False)
        figure.suptitle(title)


def draw_flags(path: Path, title: str, flags: Sequence[Flag]) -> None:
    """Draw the quality of every stream over time, as bars: the worse, the higher.

    Parameters
    ----------
    path : Path
        File to write; its suffix says what kind.
    title : str
        Title of the figure.
    flags : sequence of Flag
        Stream by stream, at least one.

    Raises
    ------
    FileError
        If matplotlib is missing or the file cannot be written.
    """
    check_figure(path)
    from matplotlib.figure import Figure

    streams = list(dict.fromkeys(flag.stream for flag in flags))
    figure = Figure(figsize=(9.0, 1.4 + 0.28 * len(streams)), layout="constrained")
    panel = figure.subplots()
    bars = [(UNKNOWN, "0.75", 0.15)]
    bars += [(str(quality), QUALITY_MARKS[quality][0], height) for quality, height in BAR_HEIGHTS.items()]
    for name, color, height in bars:
        for number, stream in enumerate(streams):
            times = [
                (flag.start / DAY_SECONDS, (flag.end - flag.start) / DAY_SECONDS)
                for flag in flags
                if (flag.stream, flag.flag) == (stream, name)
            ]
            label = name if number == 0 else None
            panel.broken_barh(times, (number - height / 2, height), color=color, label=label)
    panel.xaxis_date()
    panel.set_yticks(range(len(streams)), streams)
    panel.set(xlabel="UTC", title=title, ylim=(len(streams) - 0.5, -0.5))
    figure.legend(loc="outside lower center", ncols=len(bars), frameon=False)
    _save(path, figure)


def draw_tuning(path: Path, tuning: Tuning) -> None:
    """Draw the distances between events with the widths, and what centres and penalty change.

    Parameters
    ----------
    path : Path
        File to write; its suffix says what kind.
    tuning : Tuning
        What to draw.

    Raises
    ------
    FileError
        If matplotlib is missing or the file cannot be written.
    """
    knobs = [knob for knob in ("centers", "penalty", "penalty factor") if tuning.of(knob)]
    with panels_of(path, 1 + len(knobs)) as panels:
        panels[0].hist(tuning.distances, bins=60, color="0.8")
        for k, width in enumerate(tuning.widths):
            panels[0].axvline(width, color=COLORS[k % len(COLORS)], label=f"width {width:.3g}")
        panels[0].set(xlabel="distance of two events, standard deviations", ylabel="pairs", yticks=[])
        panels[0].legend(fontsize="small")
        for panel, knob in zip(panels[1:], knobs, strict=False):
            tried = tuning.of(knob)
            values = [point.value for point in tried]
            if knob != "penalty":
                panel.plot(values, [point.agreement for point in tried], "o-", color=COLORS[0])
                label, scale = (
                    ("centres", "linear") if knob == "centers" else ("factor of all penalties", "log")
                )
                panel.set(xlabel=label, ylabel="agrees with what was chosen", ylim=(-0.1, 1.1), xscale=scale)
                continue
            t, spread = [point.mean_t for point in tried], [point.spread_t for point in tried]
            panel.errorbar(values, t, spread, fmt="o-", color=COLORS[0])
            for point in filter(lambda point: point.is_chosen, tried):
                panel.plot(point.value, point.mean_t, "s", ms=9, mfc="none", color=COLORS[5], label="chosen")
            panel.set(xscale="log", xlabel=knob, ylabel=f"t of healthy windows of {tuning.n_expected:g}")
            panel.legend(fontsize="small")


def _draw_times(panel: Any, detections: Sequence[DetectionTime]) -> None:
    """Draw the events until the first alarm; a fault that is not seen has no bar."""
    faults = list(dict.fromkeys(one.fault for one in detections))
    sizes = list(dict.fromkeys(one.n_expected for one in detections))
    for k, size in enumerate(sizes):
        found = [one for one in detections if one.n_expected == size]
        heights = [one.n_windows * size if np.isfinite(one.n_windows) else 0.0 for one in found]
        places = [faults.index(one.fault) + (k - 0.5 * (len(sizes) - 1)) * 0.35 for one in found]
        panel.barh(places, heights, 0.32, color=COLORS[k], label=f"windows of {size:g}")
        for place, one in zip(places, found, strict=True):
            if not np.isfinite(one.n_windows):
                panel.annotate(
                    "not seen", (0.02, place), xycoords=("axes fraction", "data"), fontsize=7, va="center"
                )
    panel.set_yticks(range(len(faults)), [textwrap.fill(name, 24) for name in faults], fontsize=7)
    panel.invert_yaxis()
    seen = [one.n_windows * one.n_expected for one in detections if np.isfinite(one.n_windows)]
    panel.set(xscale="log", xlabel="events until the first alarm", xlim=(0.3 * min(seen, default=10.0), None))
    panel.xaxis.set_minor_formatter("")
    panel.legend(fontsize="small")


def draw_validation(path: Path, validation: Validation) -> None:
    """Draw the cumulative distributions of t and tau at every point over those of the null table.

    Parameters
    ----------
    path : Path
        File to write; its suffix says what kind.
    validation : Validation
        Points and null table.

    Raises
    ------
    FileError
        If matplotlib is missing or the file cannot be written.
    """
    names = [name for name in dict.fromkeys(point.name for point in validation.points) if name] or [""]
    with panels_of(path, 2 * len(names)) as panels:
        for row, name in enumerate(names):
            points = [point for point in validation.points if point.name in ("", name)]
            _draw_statistic(panels[2 * row], "t", validation.null_t, [(p, p.t) for p in points])
            _draw_statistic(panels[2 * row + 1], "tau", validation.null_tau, [(p, p.tau) for p in points])
            panels[2 * row].legend(title=name or None, fontsize="small", loc="lower right")


def _draw_statistic(panel: Any, name: str, null: Any, points: Sequence[tuple[ValidationPoint, Any]]) -> None:
    panel.ecdf(null, color="0.75", lw=5, label="null table")
    for k, (point, values) in enumerate(points):
        style = "-" if k < len(COLORS) else "--"
        label = f"{point.nu:+g}, {point.source}"
        panel.ecdf(values, ls=style, color=COLORS[k % len(COLORS)], label=label)
    panel.set(xlabel=name, ylabel="share of toys below")


def draw_power(path: Path, rows: Sequence[PowerRow], names: Sequence[str]) -> None:
    """Draw the power of each statistic against each fault as a map of colours.

    Parameters
    ----------
    path : Path
        File to write.
    rows : sequence of PowerRow
        Faults.
    names : sequence of str
        Statistics, in the order of the columns.
    """
    check_figure(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5 + 0.5 * len(names), 2.5 + 0.27 * len(rows)), layout="constrained")
    panel = figure.add_subplot()
    shares = np.array([[row.power.get(name, np.nan) for name in names] for row in rows])
    image = panel.imshow(shares, vmin=0.0, vmax=1.0, cmap="viridis", aspect="auto")
    panel.set_xticks(range(len(names)), names, rotation=60, ha="right")
    told = [f"{row.family}: {row.fault} ({row.n_reference}, {row.n_window})" for row in rows]
    panel.set_yticks(range(len(rows)), told)
    figure.colorbar(image, label="share of windows above the threshold")
    with writing_file(path) as scratch:
        figure.savefig(scratch, format=path.suffix[1:].lower())


def draw_clipping(path: Path, choice: ClippingChoice) -> None:
    """Draw the mean of t over the clipping, and the distribution of t with the chosen one.

    Parameters
    ----------
    path : Path
        File to write.
    choice : ClippingChoice
        What was tried.
    """
    from scipy import stats

    best = choice.best
    trials = choice.trials
    with panels_of(path, 3) as panels:
        places = [one.clipping for one in trials]
        panels[0].errorbar(
            places, [one.excess for one in trials], [one.error for one in trials], fmt="o", color=COLORS[0]
        )
        panels[0].axhline(0.0, color="0.5")
        panels[0].set(xscale="log", xlabel="clipping", ylabel=f"mean t - {best.n_parameters}")
        panels[1].plot(places, [one.p for one in trials], "o", color=COLORS[0])
        panels[1].plot(best.clipping, best.p, "s", ms=9, mfc="none", color=COLORS[5], label="chosen")
        panels[1].set(xscale="log", yscale="log", xlabel="clipping", ylabel="KS p with chi-square")
        panels[1].legend(fontsize="small")
        chi2 = stats.chi2(best.n_parameters)
        grid = np.linspace(0.0, max(best.t.max(), chi2.ppf(0.999)), 200)
        panels[2].ecdf(best.t, color=COLORS[0], label=f"clipping {best.clipping:.3g}")
        panels[2].plot(grid, chi2.cdf(grid), color="0.5", label="chi-square")
        panels[2].set(xlabel="t of healthy windows", ylabel="share below")
        panels[2].legend(fontsize="small")
